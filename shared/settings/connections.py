"""The servers and networks around a process."""

import ipaddress

from shared.environment_variables import PREFIX, Environment


def read_broker(env: Environment) -> str:
    return env.url("BROKER_URL", "RABBITMQ_URL", schemes=("amqp", "amqps", "nats"))


def read_networks(env: Environment) -> tuple[str, ...]:
    networks = env.names("TRUSTED_PROXIES")
    for network in networks:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            env.problems.append(f"{PREFIX}TRUSTED_PROXIES: {network!r} is not an address or a network")
    return networks
