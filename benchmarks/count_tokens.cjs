// Reads a JSON object of texts from stdin, and prints one of their numbers of tokens (o200k_base).
const { encode } = require(`${process.argv[2]}/gpt-tokenizer`);

let given = "";
process.stdin.on("data", (part) => (given += part));
process.stdin.on("end", () => {
  const counts = Object.entries(JSON.parse(given)).map(([name, text]) => [name, encode(text).length]);
  process.stdout.write(JSON.stringify(Object.fromEntries(counts)));
});
