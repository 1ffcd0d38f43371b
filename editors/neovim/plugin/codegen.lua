if vim.g.loaded_codegen then return end
vim.g.loaded_codegen = true

vim.api.nvim_create_user_command('Codegen', function(command) require('codegen.command').run(command.fargs) end, {
  nargs = '*',
  desc = 'Inline completion by codegen-lsp',
  complete = function(lead, line) return require('codegen.command').complete(lead, line) end,
})
