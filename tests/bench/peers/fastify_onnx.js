// Peer: Node, a cluster of PEER_WORKERS, fastify and onnxruntime. Contents lie in the model file, users in an array.
// Run in a folder whose node_modules has package.json's dependencies.
"use strict";
const cluster = require("cluster");
const fs = require("fs");
const path = require("path");

const data = process.env.PEER_DATA;

function ids(name) {
    return new Map(fs.readFileSync(path.join(data, name), "utf8").split("\n").slice(0, -1).map((id, i) => [id, i]));
}

// float32 values behind an .npy header of version 1
function npy(name) {
    const bytes = fs.readFileSync(path.join(data, name));
    const start = 10 + bytes.readUInt16LE(8);
    return new Float32Array(bytes.buffer, bytes.byteOffset + start, (bytes.length - start) / 4);
}

async function serve() {
    const ort = require("onnxruntime-node");
    const meta = JSON.parse(fs.readFileSync(path.join(data, "meta.json"), "utf8"));
    const contents = ids("content.ids"), userIndex = ids("user.ids"), users = npy("user.npy");
    const session = await ort.InferenceSession.create(path.join(data, "score.onnx"), {
        intraOpNumThreads: 1, interOpNumThreads: 1, executionMode: "sequential", graphOptimizationLevel: "all",
    });
    const size = meta.m * meta.d;
    const app = require("fastify")({ bodyLimit: 1 << 20 });
    app.get("/livez", async () => ({ status: "ok" }));
    const schema = {
        body: {
            type: "object", required: ["user", "candidates"],
            properties: {
                user: { type: "string" }, top_k: { type: "integer", minimum: 1 },
                candidates: { type: "array", items: { type: "string" } },
            },
        },
        response: { // fastify compiles a serializer from it
            200: {
                type: "object",
                properties: {
                    user: { type: "string" }, generation: { type: "string" }, user_status: { type: "string" },
                    ranking: {
                        type: "array",
                        items: { type: "object", properties: { id: { type: "string" }, score: { type: "number" } } },
                    },
                    missing: {
                        type: "array",
                        items: { type: "object", properties: { id: { type: "string" }, reason: { type: "string" } } },
                    },
                },
            },
        },
    };
    app.post("/rank", { schema }, async (request, reply) => {
        const { user, candidates, top_k } = request.body;
        const at = userIndex.get(user);
        if (at === undefined)
            return reply.code(404).send({ error: { message: "unknown user" } });
        const found = [], missing = [], index = new BigInt64Array(candidates.length);
        for (const id of new Set(candidates)) {
            const i = contents.get(id);
            if (i === undefined) {
                missing.push({ id, reason: "not_found" });
            } else {
                index[found.length] = BigInt(i);
                found.push(id);
            }
        }
        const { score } = await session.run({
            index: new ort.Tensor("int64", index.subarray(0, found.length), [found.length]),
            user: new ort.Tensor("float32", users.subarray(at * size, (at + 1) * size), [meta.m, meta.d]),
        });
        const scores = score.data;
        const order = Array.from(found.keys()).sort((a, b) => scores[b] - scores[a]);
        if (top_k)
            order.length = Math.min(order.length, top_k);
        return {
            user, generation: meta.generation, user_status: "present",
            ranking: order.map((i) => ({ id: found[i], score: scores[i] })), missing,
        };
    });
    await app.listen({ host: "127.0.0.1", port: Number(process.env.PEER_PORT) });
}

if (cluster.isPrimary) {
    process.on("SIGTERM", () => {
        for (const worker of Object.values(cluster.workers))
            worker.kill();
        process.exit(0);
    });
    cluster.on("exit", () => process.exit(1));
    for (let i = 0; i < Number(process.env.PEER_WORKERS || 2); i++)
        cluster.fork();
} else {
    serve().catch((error) => {
        console.error(error);
        process.exit(1);
    });
}
