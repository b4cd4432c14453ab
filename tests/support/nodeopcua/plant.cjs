// What the tests of values, limits and subscriptions need of the node-opcua server: more nodes and commands.
"use strict";
const {
  DataType, Range, Variant, VariantArrayType, ensureDatatypeExtracted, resolveNodeId,
} = require("node-opcua");

// Low on purpose: every test has to keep to them.
const LIMITS = {
  operationLimits: {
    maxNodesPerRead: 7, maxNodesPerBrowse: 2, maxNodesPerTranslateBrowsePathsToNodeIds: 3, maxMonitoredItemsPerCall: 4,
  },
  maxMonitoredItemsPerSubscription: 25, maxSubscriptionsPerSession: 3, maxMonitoredItemsQueueSize: 50,
  // 0: every change of a node with minimumSamplingInterval 0.
  minSupportedSampleRate: 0,
};

async function plant(space, own, folder, nodes) {
  const scalar = (parent, path, browseName, dataType, value, more = {}) => {
    const node = own.addVariable({ componentOf: parent, nodeId: `s=${path}`, browseName, dataType, ...more });
    node.setValueFromSource(value instanceof Variant ? value : new Variant({ dataType, value }));
    nodes[path] = node;
    return node;
  };
  for (let i = 0; i < 100; i += 1) scalar(folder, `Press.Many.${i}`, `Many${i}`, DataType.Double, i);
  scalar(folder, "Press.Fast", "Fast", DataType.Double, 0, { minimumSamplingInterval: 0 });
  for (let i = 0; i < 20; i += 1) {
    scalar(folder, `Press.Quick.${i}`, `Quick${i}`, DataType.Double, 0, { minimumSamplingInterval: 0 });
  }
  scalar(folder, "Press.Slow", "Slow", DataType.Double, 1, { minimumSamplingInterval: 700 });
  scalar(folder, "Press.Since", "Since", DataType.DateTime, new Date(Date.UTC(2026, 0, 2, 3, 4, 5)));
  scalar(folder, "Press.Latin", "Latin", DataType.String, "ok");

  const span = new Variant({ dataType: DataType.ExtensionObject, value: new Range({ low: 0, high: 1 }) });
  scalar(folder, "Press.Span", "Span", resolveNodeId("i=884"), span, { minimumSamplingInterval: 50 });

  const level = own.addAnalogDataItem({
    componentOf: folder, nodeId: "s=Press.Level", browseName: "Level", dataType: DataType.Double,
    engineeringUnitsRange: { low: 0, high: 200 }, minimumSamplingInterval: 50,
  });
  level.setValueFromSource(new Variant({ dataType: DataType.Double, value: 100 }));
  nodes["Press.Level"] = level;

  // Line1/Pump/Temperature, Line1/Motor/Temperature, Line1/Motor/Speed and a name with what paths are made of.
  const line = own.addFolder(space.rootFolder.objects, { browseName: "Line1" });
  for (const [name, value] of [["Pump", 41], ["Motor", 62]]) {
    const part = own.addObject({ componentOf: line, browseName: name });
    scalar(part, `Line1.${name}.T`, "Temperature", DataType.Double, value, { minimumSamplingInterval: 50 });
  }
  scalar(line, "Line1.Odd", "a/b:c*", DataType.Double, 7);

  const mode = own.addEnumerationType({ browseName: "Mode", enumeration: ["Off", "Manual", "Automatic"] });
  scalar(folder, "Press.Mode", "Mode", mode.nodeId, new Variant({ dataType: DataType.Int32, value: 2 }));

  const motor = own.createDataType({
    browseName: "Motor", isAbstract: false, subtypeOf: "Structure",
    partialDefinition: [
      { dataType: resolveNodeId("i=11"), name: "Speed", valueRank: -1 }, { dataType: resolveNodeId("i=12"), name: "Label", valueRank: -1 },
      { dataType: resolveNodeId("i=290"), name: "Runtime", valueRank: -1 }, { dataType: mode.nodeId, name: "Mode", valueRank: -1 },
      { dataType: resolveNodeId("i=10"), name: "Currents", valueRank: 1, arrayDimensions: [3] },
    ],
  });
  const drive = own.createDataType({
    browseName: "Drive", isAbstract: false, subtypeOf: "Structure",
    partialDefinition: [
      { dataType: resolveNodeId("i=1"), name: "Ready", valueRank: -1 }, { dataType: motor.nodeId, name: "Motor", valueRank: -1 },
    ],
  });
  for (const encodingOf of [motor, drive]) {
    own.addObject({
      browseName: { name: "Default Binary", namespaceIndex: 0 }, typeDefinition: "DataTypeEncodingType", encodingOf,
    });
  }
  await ensureDatatypeExtracted(space);
  const made = (speed) => space.constructExtensionObject(drive, {
    ready: true, motor: { speed, label: "M1", runtime: 1500, mode: 1, currents: [1, 2, 3] },
  });
  scalar(folder, "Press.Drive", "Drive", drive.nodeId,
    new Variant({ dataType: DataType.ExtensionObject, value: made(1450) }), { minimumSamplingInterval: 50 });
  scalar(folder, "Press.Drives", "Drives", drive.nodeId, new Variant({
    dataType: DataType.ExtensionObject, arrayType: VariantArrayType.Array, value: [made(1), made(2)],
  }), { valueRank: 1 });

  // Two alarms of a tank; the events of the boiler house are those of the server.
  space.installAlarmsAndConditionsService();
  const house = own.addObject({
    browseName: "BoilerHouse", organizedBy: space.rootFolder.objects, eventNotifier: 1,
    notifierOf: space.rootFolder.objects.server,
  });
  const tank = scalar(house, "House.Tank", "Tank", DataType.Double, 50, { eventSourceOf: house });
  const alarm = (name, limits) => own.instantiateExclusiveLimitAlarm("ExclusiveLimitAlarmType", {
    browseName: name, conditionName: name, componentOf: house, conditionSource: tank, inputNode: tank, ...limits,
  });
  const alarms = { TooHigh: alarm("TooHigh", { highLimit: 80 }), TooLow: alarm("TooLow", { lowLimit: 20 }) };

  return {
    acknowledge: ({ acknowledge }) => {
      const one = alarms[acknowledge];
      one.acknowledgeAndAutoConfirmBranch(one.currentBranch(), "seen");
    },
    // As many changes as fast as they go, within one turn of the loop.
    burst: ({ burst, times }) => {
      for (let i = 1; i <= times; i += 1) {
        nodes[burst].setValueFromSource(new Variant({ dataType: DataType.Double, value: i }));
      }
    },
    // Twenty nodes at once, each with so many changes every 40 ms.
    stream: async ({ stream, times }) => {
      let value = 0;
      for (let round = 0; round < stream; round += 1) {
        const due = Date.now() + 40;
        for (let i = 0; i < times; i += 1) {
          value += 1;
          for (let n = 0; n < 20; n += 1) {
            nodes[`Press.Quick.${n}`].setValueFromSource(new Variant({ dataType: DataType.Double, value }));
          }
        }
        await new Promise((resolve) => setTimeout(resolve, Math.max(0, due - Date.now())));
      }
    },
    retype: ({ retype }) => nodes[retype].setValueFromSource(new Variant({ dataType: DataType.String, value: "text" })),
    recreate: ({ recreate }) => {
      const name = recreate.split(".").pop();
      delete nodes[recreate];
      // Of any type: it is to change.
      scalar(folder, recreate, name, resolveNodeId("i=24"), new Variant({ dataType: DataType.Double, value: 33 }),
        { minimumSamplingInterval: 50 });
    },
    garble: ({ garble }) => {
      // What nobody can decode: a Range (two doubles) of three bytes.
      class Short extends Range {
        encode(stream) { for (const byte of [1, 2, 3]) stream.writeUInt8(byte); }
      }
      const value = new Short({ low: 0, high: 1 });
      nodes[garble].setValueFromSource(new Variant({ dataType: DataType.ExtensionObject, value }));
    },
  };
}

// Another namespace where "urn:plant:node" used to be, with a node of the same name.
function shift(space) {
  const other = space.registerNamespace("urn:plant:other");
  const folder = other.addFolder(space.rootFolder.objects, { browseName: "Press" });
  other.addVariable({
    componentOf: folder, nodeId: "s=Press.Temperature", browseName: "Temperature", dataType: DataType.Double,
  }).setValueFromSource(new Variant({ dataType: DataType.Double, value: -99 }));
}

module.exports = { LIMITS, plant, shift };
