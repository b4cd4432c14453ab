// Reads a Modbus TCP device with the client of the npm package modbus-serial.
//
//   node client.cjs PORT UNIT '[["holding", 0, 4], ["coil", 3, 2]]'     (NODE_PATH: the folder of node_modules)
//
// Prints a JSON list with, for each read, the list of values, or the number of the exception.
"use strict";
const ModbusRTU = require("modbus-serial");
const READS = {
  holding: "readHoldingRegisters", input: "readInputRegisters",
  coil: "readCoils", discrete: "readDiscreteInputs",
};

async function main() {
  const client = new ModbusRTU();
  await client.connectTCP("127.0.0.1", { port: Number(process.argv[2]) });
  client.setID(Number(process.argv[3]));
  client.setTimeout(5000);
  const found = [];
  for (const [table, address, quantity] of JSON.parse(process.argv[4])) {
    try {
      found.push((await client[READS[table]](address, quantity)).data.slice(0, quantity));
    } catch (error) {
      if (error.modbusCode === undefined) throw error;
      found.push(error.modbusCode);
    }
  }
  client.close(() => process.stdout.write(JSON.stringify(found) + "\n", () => process.exit(0)));
}

main().catch((error) => { console.error(error); process.exit(1); });
