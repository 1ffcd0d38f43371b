"""Checkpoints of CodeGen: pull, convert to int8 CTranslate2 builds, verify, and keep the builds."""
