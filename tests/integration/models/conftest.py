from tests.fakes.fixtures import model_connections, model_registry, model_server

__all__ = ["model_connections", "model_registry", "model_server"]
