// Bundles the extension and the page of its panel. The path of the clone is compiled in, so that the extension finds the server there; set
// CODEGEN_LSP_CLONE to an empty string for a package for other machines.
import { copyFileSync, existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));
const root = resolve(here, '..', '..');
const clone = process.env.CODEGEN_LSP_CLONE ?? (existsSync(join(root, 'pyproject.toml')) ? root : '');

await build({
  entryPoints: [join(here, 'src', 'extension.ts')],
  outfile: join(here, 'dist', 'extension.js'),
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node20',
  external: ['vscode'],
  minify: true,
  legalComments: 'eof',
  define: { CLONE: JSON.stringify(clone) },
});
await build({
  entryPoints: [join(here, 'webview', 'session.ts')],
  outfile: join(here, 'dist', 'session.js'),
  bundle: true,
  platform: 'browser',
  format: 'iife',
  target: 'es2022',
  minify: true,
});
copyFileSync(join(root, 'LICENSE'), join(here, 'LICENSE'));
