// Modbus TCP servers of the npm packages modbus-serial and jsmodbus, for the tests of the Modbus driver.
//
//   node server.cjs modbus-serial|jsmodbus     (NODE_PATH names the folder of node_modules)
//
// Addresses 0 to 999 of all four tables. Says one JSON line when it listens, then answers one JSON line to each
// command on standard input: {"fill": "holding", "address": 5, "values": [1, 2]}, {"seen": true}. Each answer
// counts the requests of the wire by function code. Ends with its standard input.
"use strict";
const net = require("node:net");
const readline = require("node:readline");

const SIZE = 1000;
const say = (content) => process.stdout.write(JSON.stringify(content) + "\n");
const seen = {};
const count = (socket) => socket.on("data", (data) => { seen[data[7]] = (seen[data[7]] || 0) + 1; });

function modbusSerial(listening) {
  const ModbusRTU = require("modbus-serial");
  const words = { holding: new Uint16Array(SIZE), input: new Uint16Array(SIZE) };
  const bits = { coil: new Uint8Array(SIZE), discrete: new Uint8Array(SIZE) };
  const from = (table) => (address) => {
    if (address >= SIZE) throw { modbusErrorCode: 2 };
    return table[address];
  };
  const vector = {
    getHoldingRegister: from(words.holding), getInputRegister: from(words.input),
    getCoil: (address) => Boolean(from(bits.coil)(address)),
    getDiscreteInput: (address) => Boolean(from(bits.discrete)(address)),
  };
  // Unit 1 only: it is silent to the others. The port as text, because it takes a 0 for "none given", which is 502.
  const server = new ModbusRTU.ServerTCP(vector, { host: "127.0.0.1", port: "0", unitID: 1 });
  server._server.on("connection", count);
  server.on("socketError", () => {});
  server.on("initialized", () => listening(server._server.address().port));
  return (table, address, values) => values.forEach((value, i) => {
    ({ ...words, ...bits })[table][address + i] = value;
  });
}

function jsmodbus(listening) {
  const modbus = require("jsmodbus");
  const netServer = new net.Server();
  const tables = {
    holding: Buffer.alloc(2 * SIZE), input: Buffer.alloc(2 * SIZE),
    coil: Buffer.alloc(SIZE / 8), discrete: Buffer.alloc(SIZE / 8),
  };
  new modbus.server.TCP(netServer, {
    holding: tables.holding, input: tables.input, coils: tables.coil, discrete: tables.discrete,
  });
  netServer.on("connection", count);
  netServer.on("connection", (socket) => socket.on("error", () => {}));
  netServer.listen(0, "127.0.0.1", () => listening(netServer.address().port));
  return (table, address, values) => values.forEach((value, i) => {
    const at = address + i;
    if (table === "holding" || table === "input") tables[table].writeUInt16BE(value, 2 * at);
    else if (value) tables[table][at >> 3] |= 1 << at % 8;
    else tables[table][at >> 3] &= ~(1 << at % 8);
  });
}

const fill = { "modbus-serial": modbusSerial, jsmodbus }[process.argv[2]]((port) => say({ port }));
readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const command = JSON.parse(line);
  if (command.fill) fill(command.fill, command.address, command.values);
  say({ seen });
}).on("close", () => process.exit(0));
