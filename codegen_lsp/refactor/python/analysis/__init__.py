"""Facts about a Python program that refactorings rely on, derived from its syntax trees.

Each module answers one question: which names are bound where (`scopes`), which variables may be read before they have
a value (`definite_assignment`), when expressions are evaluated and with which effects (`evaluation_order`), and where
control flow leaves (`control_flow`). The package knows nothing of selections, drafts and the model.
"""
