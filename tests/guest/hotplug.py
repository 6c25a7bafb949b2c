"""x"""
def test_x() -> None:
    """X."""
