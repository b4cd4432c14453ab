// A node-opcua server for the tests of the OPC UA driver: an implementation that shares no code with asyncua.
//
//   node server.cjs PKI_FOLDER [PORT [shifted]]     (NODE_PATH names the folder of node_modules)
//
// Says one JSON line when it listens, then answers one JSON line to each command on standard input:
// {"set": "Temperature", "value": 1.5}, {"remove": "Temperature"}, {"writes": true}, {"stop": true},
// {"trust": true|false} (take unknown client certificates, or only those that were trusted),
// {"accept": BASE64} (trust this client certificate), {"acceptUser": BASE64}, {"skew": SECONDS} (of its clock).
"use strict";
const path = require("node:path");
const readline = require("node:readline");
const {
  DataType, MessageSecurityMode, OPCUACertificateManager, OPCUAServer, SecurityPolicy, StatusCodes, Variant,
} = require("node-opcua");

const { LIMITS, plant, shift } = require("./plant.cjs");

// The clock of the whole process can be put off.
const RealDate = Date;
let clockOffset = 0;
globalThis.Date = class extends RealDate {
  constructor(...parts) { if (parts.length) super(...parts); else super(RealDate.now() + clockOffset); }
  static now() { return RealDate.now() + clockOffset; }
};

const say = (content) => process.stdout.write(JSON.stringify(content) + "\n");

async function main() {
  const pki = process.argv[2];
  const certificates = new OPCUACertificateManager({
    automaticallyAcceptUnknownCertificate: true, rootFolder: path.join(pki, "server"),
  });
  const users = new OPCUACertificateManager({
    automaticallyAcceptUnknownCertificate: false, rootFolder: path.join(pki, "users"),
  });
  const server = new OPCUAServer({
    port: Number(process.argv[3] ?? 0), host: "127.0.0.1", serverCertificateManager: certificates,
    userCertificateManager: users,
    securityPolicies: [
      SecurityPolicy.None, SecurityPolicy.Basic256Sha256, SecurityPolicy.Aes128_Sha256_RsaOaep,
      SecurityPolicy.Aes256_Sha256_RsaPss, SecurityPolicy.Basic256, SecurityPolicy.Basic128Rsa15,
    ],
    securityModes: [MessageSecurityMode.None, MessageSecurityMode.Sign, MessageSecurityMode.SignAndEncrypt],
    allowAnonymous: true, serverCapabilities: LIMITS,
    userManager: { isValidUser: (name, password) => name === "edge" && password === "right" },
  });
  let writes = 0;
  server.on("request", (request) => { if (request.schema.name === "WriteRequest") writes += 1; });
  let refused = 0;
  server.on("response", (response) => {
    if (response.responseHeader.serviceResult === StatusCodes.BadTooManyOperations) refused += 1;
  });
  await server.initialize();
  const space = server.engine.addressSpace;
  if (process.argv[4] === "shifted") shift(space);
  const own = space.registerNamespace("urn:plant:node");
  const folder = own.addFolder(space.rootFolder.objects, { browseName: "Press" });
  const nodes = {};
  const add = (name, dataType, value, valueRank = -1) => {
    nodes[name] = own.addVariable({
      componentOf: folder, nodeId: `s=Press.${name}`, browseName: name, dataType, valueRank,
      minimumSamplingInterval: 50,
    });
    nodes[name].setValueFromSource(new Variant({ dataType, value, ...(valueRank === 1 ? { arrayType: 1 } : {}) }));
  };
  add("Temperature", DataType.Double, 20.5);
  add("Pressure", DataType.Float, 1.5);
  add("Count", DataType.UInt32, 7);
  add("Offset", DataType.Int16, -3);
  add("Running", DataType.Boolean, true);
  add("Order", DataType.String, "A-4711");
  add("Profile", DataType.Double, new Float64Array([1, 2, 3]), 1);
  const more = await plant(space, own, folder, nodes);
  await server.start();
  say({ port: server.endpoints[0].port });

  const commands = {
    set: ({ set, value, status }) => {
      const dataType = nodes[set].readValue().value.dataType;
      nodes[set].setValueFromSource(new Variant({ dataType, value }), status ? StatusCodes[status] : StatusCodes.Good);
    },
    remove: ({ remove }) => space.deleteNode(nodes[remove]),
    writes: () => {},
    trust: async ({ trust }) => { certificates.automaticallyAcceptUnknownCertificate = trust; },
    accept: async ({ accept }) => certificates.trustCertificate(Buffer.from(accept, "base64")),
    acceptUser: async ({ acceptUser }) => users.trustCertificate(Buffer.from(acceptUser, "base64")),
    skew: ({ skew }) => { clockOffset = 1000 * skew; },
    ...more,
    stop: async () => { await server.shutdown(50); setImmediate(() => process.exit(0)); },
  };
  readline.createInterface({ input: process.stdin }).on("line", async (line) => {
    const command = JSON.parse(line);
    await commands[Object.keys(command)[0]](command);
    say({ writes, refused });
  }).on("close", () => process.exit(0));
}

main().catch((error) => { process.stderr.write(String(error.stack) + "\n"); process.exit(1); });
