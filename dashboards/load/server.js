// A small HTTP server on libuv's loop; one request in two hundred computes for long.
const http = require("node:http");

let count = 0;
const server = http.createServer((request, response) => {
  count += 1;
  const end = performance.now() + (count % 200 === 0 ? 40 : 0.1);
  while (performance.now() < end);
  response.end("loopscope\n");
});
server.listen(0, "127.0.0.1", () => console.log(`port ${server.address().port}`));
// The end of standard input is ours.
process.stdin.resume().on("end", () => process.exit(0));
