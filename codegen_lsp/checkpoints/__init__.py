"""From a checkpoint's name to a verified int8 CTranslate2 build on disk."""
