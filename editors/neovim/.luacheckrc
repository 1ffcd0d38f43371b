-- Lua as Neovim has it, with its one global.
std = "luajit"
globals = { "vim" }
max_line_length = 140
