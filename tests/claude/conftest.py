from tests.fakes.session_fixtures import bench, claude, looks, model

__all__ = ["bench", "claude", "looks", "model"]
