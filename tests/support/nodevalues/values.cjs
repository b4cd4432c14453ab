// Numbers to register bytes and back with Node's Buffer: one JSON array of questions a line, one of answers.
// [type, order, text of the number] is answered with hex; [type, order, "hex:..."] with the number's text.
"use strict";

const kinds = {
  int16: [2, "Int16"], uint16: [2, "UInt16"], int32: [4, "Int32"], uint32: [4, "UInt32"],
  int64: [8, "BigInt64"], uint64: [8, "BigUInt64"], float32: [4, "Float"], float64: [8, "Double"],
};

// Between the bytes of a big-endian number and those on the wire; each of them is its own inverse.
function arrange(bytes, order) {
  if (order === "DCBA" || (order === "CDAB" && bytes.length > 2)) bytes.reverse();
  if (order === "BADC" || (order === "CDAB" && bytes.length > 2)) bytes.swap16();
  return bytes;
}

function answer([type, order, text]) {
  const [size, name] = kinds[type];
  if (text.startsWith("hex:")) {
    const value = arrange(Buffer.from(text.slice(4), "hex"), order)[`read${name}BE`](0);
    return Object.is(value, -0) ? "-0" : String(value);
  }
  const bytes = Buffer.alloc(size);
  bytes[`write${name}BE`](size === 8 && name.startsWith("Big") ? BigInt(text) : Number(text), 0);
  return arrange(bytes, order).toString("hex");
}

require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  process.stdout.write(JSON.stringify(JSON.parse(line).map(answer)) + "\n");
});
