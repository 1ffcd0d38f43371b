"""Questions of the server that nobody waits for: they wait for `:Codegen answer`."""

from __future__ import annotations

CHOICE = """_G.asked, _G.choice = {}, nil
vim.ui.select = function(items, options, choose)
  table.insert(_G.asked, options.prompt)
  choose(_G.choice and items[_G.choice])
end
"""


def ask(neovim, number, actions):
    """Have the server ask a question."""
    params = {"type": 3, "message": f"Question {number}?", "actions": actions}
    neovim.lua(
        "local server = require('codegen.server') server.execute(server.client(), 'fake.ask', {...})", number, params
    )


def answers(fake):
    """Return the titles of chosen actions, by the number of the question; None for a question without one."""
    found = {one["id"]: one["result"] for one in fake.log if "result" in one and "method" not in one}
    return {number: result and result["title"] for number, result in found.items()}


def test_questions_are_shown_in_turn(neovim, fake):
    neovim.lua(CHOICE)
    for count, number in enumerate((101, 102), start=1):
        ask(neovim, number, [{"title": f"Yes to {number}"}, {"title": "No"}])
        # One after the other: while a command is pending, a question is taken for one that the command asks.
        neovim.until(lambda: neovim.messages().count("The server has a question") == count, f"question {number}")  # noqa: B023
    assert neovim.lua("return #_G.asked") == 0
    neovim.command("Codegen answer")
    assert neovim.lua("return _G.asked") == ["Question 101?"]
    assert answers(fake) == {}, "it was left without a choice"
    neovim.lua("_G.choice = 1")
    neovim.command("Codegen answer")
    neovim.until(lambda: answers(fake) == {102: "Yes to 102"}, "the answer to the other question")
    neovim.lua("_G.choice = 2")
    neovim.command("Codegen answer")
    neovim.until(lambda: answers(fake) == {102: "Yes to 102", 101: "No"}, "the answer to the first question")
    neovim.command("Codegen answer")
    assert "The server has no question." in neovim.messages()
    assert neovim.lua("return _G.asked") == ["Question 101?", "Question 102?", "Question 101?"]


def test_a_question_without_a_choice_is_a_message(neovim, fake):
    neovim.lua(CHOICE)
    ask(neovim, 101, [])
    neovim.until(lambda: answers(fake) == {101: None}, "the answer")
    neovim.until(lambda: "Question 101?" in neovim.messages(), "the message")
    neovim.command("Codegen answer")
    assert "The server has no question." in neovim.messages()
