// node lint.js FILE...: Redocly's strict rules over each document. Runs where test_openapi.sh has put the linter.
"use strict";

const { createConfig, formatProblems, getTotals, lint } = require("@redocly/openapi-core");

async function main(files) {
    const config = await createConfig({
        extends: ["recommended-strict"],
        rules: {
            "info-license": "off", // the project has none to name
            // the schemas say themselves where nothing else may be
            "no-invalid-schema-examples": { severity: "error", allowAdditionalProperties: true },
            "no-invalid-media-type-examples": { severity: "error", allowAdditionalProperties: true },
            "no-invalid-parameter-examples": { severity: "error", allowAdditionalProperties: true },
            "operation-singular-tag": "error",
        },
    });
    let bad = 0;
    for (const ref of files) {
        const problems = await lint({ ref, config });
        const totals = getTotals(problems);
        formatProblems(problems, { format: "codeframe", totals, version: "1" });
        bad += totals.errors + totals.warnings;
    }
    return bad;
}

main(process.argv.slice(2)).then((bad) => process.exit(bad ? 1 : 0), (error) => {
    console.error(error);
    process.exit(2);
});
