// Reads an AsyncAPI document from stdin, and says what is wrong with it.
const { Parser } = require("@asyncapi/parser");
const { readFileSync } = require("node:fs");

// That there is a newer version of AsyncAPI is no fault of the document.
const fine = ["asyncapi-latest-version"];

new Parser().parse(readFileSync(0, "utf8")).then(({ document, diagnostics }) => {
  const wrong = diagnostics.filter(({ code }) => !fine.includes(code));
  for (const { message, path } of wrong) console.error(`${path.join(".")}: ${message}`);
  if (!document || wrong.length > 0) process.exit(1);
  console.log(`${document.channels().all().length} channels, ${document.operations().all().length} operations`);
});
