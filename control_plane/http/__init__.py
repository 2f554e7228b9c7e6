"""HTTP as every feature speaks it: problems, guards, transactions, ETags, paging, request ids, the OpenAPI document."""
