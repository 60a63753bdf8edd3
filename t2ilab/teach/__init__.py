"""What lessons show and ask: the package's own lines, where an equation stands, and checks that raise."""
from .source import check, equations, profile, show_source, where

__all__ = ["check", "equations", "profile", "show_source", "where"]
