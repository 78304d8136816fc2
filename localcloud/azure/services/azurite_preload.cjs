// Loaded into the Azurite process before Azurite: stops it when its parent exits, and replaces its clock.
"use strict";
const fs = require("node:fs");

// The parent keeps stdin open and never writes to it, so stdin ends only when the parent has exited or crashed.
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
// Exit immediately: all data is in memory, and Azurite's own shutdown would wait for every open connection.
process.on("SIGTERM", () => process.exit(0));

// This file holds the time of the parent's clock: milliseconds since 1970 as a little-endian double.
const path = process.env.LOCAL_AZURE_CLOCK;
if (path) {
  const file = fs.openSync(path, "r");
  const bytes = Buffer.alloc(8);
  const now = () => {
    fs.readSync(file, bytes, 0, 8, 0);
    return bytes.readDoubleLE(0);
  };
  const RealDate = Date;
  globalThis.Date = new Proxy(RealDate, {
    construct: (target, args, made) => Reflect.construct(target, args.length ? args : [now()], made),
    apply: () => new RealDate(now()).toString(),
    get: (target, name) => (name === "now" ? now : target[name]),
  });
}

// Azurite looks up a blob by account, container, name and snapshot, in this order, but its database uses an index only
// for the first field, so each write scans every blob of the account: 20,000 writes take two minutes. With the name
// first, they take seconds and return the same result.
const Collection = require(require.resolve("lokijs", { paths: [process.argv[1]] })).Collection;
const findOne = Collection.prototype.findOne;
Collection.prototype.findOne = function (query) {
  return findOne.call(this, query && typeof query.name === "string" ? { name: query.name, ...query } : query);
};
