// Reads an AsyncAPI document from stdin, and reports what is wrong with it.
const { readFileSync } = require("node:fs");
// @ts-expect-error The parser is found through NODE_PATH, and has no types here.
const { Parser } = require("@asyncapi/parser");

/** @typedef {{ code: string, message: string, path: string[] }} Diagnostic */
/** @typedef {{ channels(): Collection, operations(): Collection }} Document */
/** @typedef {{ all(): unknown[] }} Collection */

// A newer version of AsyncAPI is not an error of the document.
const IGNORED = ["asyncapi-latest-version"];

async function main() {
    /** @type {{ document?: Document, diagnostics: Diagnostic[] }} */
    const { document, diagnostics } = await new Parser().parse(readFileSync(0, "utf8"));
    const errors = diagnostics.filter(({ code }) => !IGNORED.includes(code));
    for (const { message, path } of errors) console.error(`${path.join(".")}: ${message}`);
    if (!document || errors.length > 0) process.exit(1);
    console.log(`${document.channels().all().length} channels, ${document.operations().all().length} operations`);
}

main();
