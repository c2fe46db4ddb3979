// T5's encoder in onnxruntime, one thread, all optimisations of graphs: a peer of `make bench-encoder-peers`.
//
//     node onnx_worker.js FILE.onnx
//
// FILE.onnx is onnx_graph.py's. worker.py tells what is read and written.
"use strict";

const fs = require("fs");
const readline = require("readline");
const ort = require("onnxruntime-node");

function readBatches(path) {
    const parts = fs.readFileSync(path, "utf8").trimEnd().split("\n\n");
    return parts.map((part) => prepare(part.split("\n").map((line) => line.split(" "))));
}

function prepare(sequences) {
    const lengths = sequences.map((sequence) => sequence.length);
    const longest = Math.max(...lengths);
    const ids = new BigInt64Array(sequences.length * longest);
    sequences.forEach((sequence, row) => sequence.forEach((id, i) => (ids[row * longest + i] = BigInt(id))));
    return {
        lengths,
        longest,
        tokens: lengths.reduce((a, b) => a + b),
        feeds: {
            ids: new ort.Tensor("int64", ids, [sequences.length, longest]),
            lengths: new ort.Tensor("int32", Int32Array.from(lengths), [sequences.length]),
        },
    };
}

async function writeStates(session, batches, path) {
    const out = fs.openSync(path, "w");
    for (const batch of batches) {
        const { data, dims } = (await session.run(batch.feeds)).states;
        batch.lengths.forEach((length, row) => {
            const begin = row * batch.longest * dims[2];
            fs.writeSync(out, new Uint8Array(data.slice(begin, begin + length * dims[2]).buffer));
        });
    }
    fs.closeSync(out);
}

async function timeRuns(session, batches, limit) {
    const begin = process.hrtime.bigint();
    const before = process.cpuUsage();
    let tokens = 0;
    let seconds = 0;
    do {
        for (const batch of batches) {
            await session.run(batch.feeds);
            tokens += batch.tokens;
        }
        seconds = Number(process.hrtime.bigint() - begin) / 1e9;
    } while (seconds < limit);
    const used = process.cpuUsage(before);
    return { tokens, seconds, cpu: (used.user + used.system) / 1e6 };
}

async function main() {
    const session = await ort.InferenceSession.create(process.argv[2], {
        executionProviders: ["cpu"],
        intraOpNumThreads: 1,
        interOpNumThreads: 1,
        executionMode: "sequential",
        graphOptimizationLevel: "all",
    });
    const known = new Map();
    console.log(JSON.stringify({ ready: true, version: require("onnxruntime-node/package.json").version }));
    for await (const line of readline.createInterface({ input: process.stdin })) {
        const [what, path, last] = line.split(" ");
        if (!known.has(path)) {
            known.set(path, readBatches(path));
            for (const batch of what === "run" ? known.get(path) : []) await session.run(batch.feeds);
        }
        const batches = known.get(path);
        if (what === "states") {
            await writeStates(session, batches, last);
            console.log(JSON.stringify({ tokens: batches.reduce((sum, batch) => sum + batch.tokens, 0) }));
        } else {
            console.log(JSON.stringify(await timeRuns(session, batches, Number(last))));
        }
    }
}

main().catch((error) => {
    console.error(String(error));
    process.exit(1);
});
