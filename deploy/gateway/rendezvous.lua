-- Sets txn.worker to the server that should get the request: the first in the rendezvous order of txn.affinity among the
-- servers of the backend "workers" that take requests. The order is that of shared/placement.py: by SHA-256 of
-- "place|key", highest first. A server is named by its place, the host and port of its CADENCE_WORKER_URL.

local function takes_requests(server)
    local status = server:get_stats().status
    return status ~= nil and (status:find("^UP") ~= nil or status == "no check")
end

core.register_action("place", { "http-req" }, function(txn)
    local key = txn:get_var("txn.affinity")
    local best, best_weight
    for name, server in pairs(core.backends["workers"].servers) do
        if takes_requests(server) then
            local weight = txn.c:hex(txn.c:sha2(name .. "|" .. key, 256))
            if best == nil or weight > best_weight or (weight == best_weight and name > best) then
                best, best_weight = name, weight
            end
        end
    end
    if best ~= nil then
        txn:set_var("txn.worker", best)
    end
end)
