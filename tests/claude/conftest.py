from tests.fakes.session_fixtures import bench, claude, model

__all__ = ["bench", "claude", "model"]
