// Reads {"tables": {name: schema}, "queries": {name: text}} and writes what Microsoft's parser makes of each query:
// {name: {"problems": [text], "columns": {name: type}}}.
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const vm = require("node:vm");

// The package is made for browsers: its files expect one another among the global names.
const folder = path.dirname(require.resolve("@kusto/language-service-next"));
for (const file of ["bridge.min.js", "Kusto.Language.Bridge.min.js"]) {
  vm.runInThisContext(fs.readFileSync(path.join(folder, file), "utf8"), { filename: file });
}
const { GlobalState, KustoCode, Symbols } = globalThis.Kusto.Language;

function items(list) {
  return Array.from({ length: list.Count }, (_, i) => list.getItem(i));
}

const { tables, queries } = JSON.parse(fs.readFileSync(0, "utf8"));
const symbols = Object.entries(tables).map(([name, schema]) => new Symbols.TableSymbol.$ctor7(name, schema, null));
const globals = GlobalState.Default.WithDatabase(new Symbols.DatabaseSymbol.ctor("workspace", symbols));

const found = {};
for (const [name, text] of Object.entries(queries)) {
  const code = KustoCode.ParseAndAnalyze(text, globals);
  found[name] = {
    problems: items(code.GetDiagnostics()).map((one) => `${one.Severity}: ${one.Message}`),
    columns: Object.fromEntries(items(code.ResultType?.Columns ?? { Count: 0 }).map((one) => [one.Name, one.Type.Name])),
  };
}
process.stdout.write(JSON.stringify(found));
