// Pictures of the dashboards, from what `cargo xtask dashboards --verify` measured: docs/images/NAME.png each.
// From the repository's root; needs node, chromium and pngquant:
//   mkdir -p target/render && cp dashboards/render/package*.json target/render
//   npm ci --ignore-scripts --legacy-peer-deps --prefix target/render
//   node dashboards/render/render.mjs [NAME...]

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const root = join(here, "../..");
const modules = join(root, "target/render/node_modules");
const { build } = createRequire(join(modules, "x"))("esbuild");
const shown = JSON.parse(readFileSync(join(root, "target/dashboards/shown.json"), "utf8"));
const folder = mkdtempSync(join(tmpdir(), "loopscope-render-"));

// Editors and maps, which no panel of ours has.
const stubs = {
  name: "stubs",
  setup(build) {
    build.onResolve({ filter: /^(monaco-editor|@monaco-editor|ol|react-monaco-editor)(\/|$)/ }, (found) => ({ path: found.path, namespace: "stub" }));
    build.onLoad({ filter: /.*/, namespace: "stub" }, () => ({ contents: "module.exports = {}", loader: "js" }));
  },
};
const bundle = await build({
  entryPoints: [join(here, "view.jsx")],
  bundle: true,
  nodePaths: [modules],
  minify: true,
  write: false,
  outdir: folder,
  format: "iife",
  jsx: "automatic",
  define: { "process.env.NODE_ENV": '"production"', global: "window" },
  loader: { ".svg": "dataurl", ".png": "dataurl", ".woff2": "dataurl" },
  plugins: [stubs],
  logLevel: "error",
});
const code = bundle.outputFiles.find((file) => file.path.endsWith(".js")).text.replaceAll("</script", "<\\/script");
const css = bundle.outputFiles.find((file) => file.path.endsWith(".css"))?.text ?? "";
const style = `${css}
body { margin: 0; background: #111217; color: #ccccdc; font: 14px Inter, sans-serif; position: relative; }
h1 { font-size: 18px; font-weight: 500; margin: 10px 8px; } h2 { font-size: 16px; font-weight: 500; margin: 8px 0; }
table { border-collapse: collapse; width: 100%; font-size: 13px; } th, td { text-align: left; padding: 4px 8px; border-bottom: 1px solid #26282e; }
button { color: inherit; background: none; border: 0; padding: 0; font: inherit; }
th { font-weight: 500; color: #9fa7b3; } .none { padding: 16px; color: #9fa7b3; text-align: center; }`;

const chosen = process.argv.slice(2);
const files = readdirSync(join(root, "dashboards")).filter((name) => /^loopscope-\w+\.json$/.test(name));
for (const file of files) {
  const dashboard = JSON.parse(readFileSync(join(root, "dashboards", file), "utf8"));
  const name = file.replace(".json", "");
  if (chosen.length > 0 && !chosen.includes(name)) continue;
  const data = JSON.stringify({ dashboard, shown }).replaceAll("<", "\\u003c");
  const page = join(folder, `${name}.html`);
  writeFileSync(page, `<!DOCTYPE html><meta charset="utf-8"><style>${style}</style><div id="root"></div><script>window.MEASURED=${data}</script><script>${code}</script>`);
  const height = 52 + 38 * Math.max(...dashboard.panels.map(({ gridPos }) => gridPos.y + gridPos.h));
  const picture = join(root, "docs/images", `${name}.png`);
  execFileSync("chromium", [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", `--user-data-dir=${join(folder, "profile")}`,
    `--window-size=1400,${height}`, "--virtual-time-budget=6000", `--screenshot=${picture}`, `file://${page}`,
  ], { stdio: "pipe" });
  // Flat colours lose nothing that can be seen.
  execFileSync("pngquant", ["--force", "--strip", "--output", picture, "64", picture]);
  console.log(`docs/images/${name}.png: ${Math.round(statSync(picture).size / 1024)} KB`);
}
if (!process.env.KEEP) rmSync(folder, { recursive: true });
else console.log(folder);
