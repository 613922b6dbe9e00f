// The web UI of a stand-in release, as Next.js builds one: `node server.js`, with modules behind links.
const http = require("node:http");
const { page } = require("page");

if (Number(process.versions.node.split(".")[0]) < 20) throw new Error("Node.js 20 or newer is needed");
http
  .createServer((request, response) => {
    response.writeHead(request.url === "/" ? 200 : 404, { "Content-Type": "text/html" });
    response.end(page(process.env.MANAGER_BASE, process.env.NEXT_PUBLIC_API_BASE_URL));
  })
  .listen(Number(process.env.PORT), process.env.HOSTNAME);
