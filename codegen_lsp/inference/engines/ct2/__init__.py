"""The engine on CTranslate2."""
