"""Files that are written and removed without leaving anything behind, also when the program is interrupted."""
