// Whether an AsyncAPI document is one: `node asyncapi.js <file>`.
const { readFileSync } = require("node:fs");
const { Parser } = require("@asyncapi/parser");

const file = process.argv[2];
new Parser().validate(readFileSync(file, "utf8")).then((said) => {
    // 0 is an error, 1 a warning; the rest are hints.
    const wrong = said.filter(({ severity }) => severity < 2);
    for (const { message, path } of wrong) console.error(`${file}: ${path.join(".")}: ${message}`);
    if (wrong.length) process.exit(1);
    console.log(`${file}: OK`);
});
