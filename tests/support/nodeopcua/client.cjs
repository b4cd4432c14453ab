// A node-opcua client: connects to a server in every way it is told, and reads one node each time.
//
//   node client.cjs PKI_FOLDER URL NODE '[{"policy": "Basic256Sha256", "mode": "Sign", "user": {...}}, ...]'
//
// Says one JSON line for each way: {"status": "Good", "value": 20.5} or {"error": "..."}.
"use strict";
const path = require("node:path");
const {
  AttributeIds, MessageSecurityMode, OPCUACertificateManager, OPCUAClient, SecurityPolicy, UserTokenType,
} = require("node-opcua");

async function read(certificates, url, nodeId, way) {
  const client = OPCUAClient.create({
    clientCertificateManager: certificates, endpointMustExist: false,
    securityPolicy: SecurityPolicy[way.policy], securityMode: MessageSecurityMode[way.mode],
    connectionStrategy: { maxRetry: 0 }, transportTimeout: 5000,
  });
  try {
    await client.connect(url);
    const session = await client.createSession(
      way.user ? { type: UserTokenType.UserName, userName: way.user.name, password: way.user.password }
        : { type: UserTokenType.Anonymous },
    );
    const found = await session.read({ nodeId, attributeId: AttributeIds.Value });
    await session.close();
    return { status: found.statusCode.name, value: found.value.value };
  } catch (error) {
    return { error: String(error.message) };
  } finally {
    await client.disconnect();
  }
}

async function main() {
  const [pki, url, nodeId, ways] = process.argv.slice(2);
  const certificates = new OPCUACertificateManager({
    automaticallyAcceptUnknownCertificate: true, rootFolder: path.join(pki, "client"),
  });
  await certificates.initialize();
  for (const way of JSON.parse(ways)) {
    process.stdout.write(JSON.stringify(await read(certificates, url, nodeId, way)) + "\n");
  }
  process.exit(0);
}

main().catch((error) => { process.stderr.write(String(error.stack) + "\n"); process.exit(1); });
