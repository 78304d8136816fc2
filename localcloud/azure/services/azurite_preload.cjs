// Loaded into Azurite's process before Azurite itself: ends it with its parent, and lets the local clock be its clock.
"use strict";
const fs = require("node:fs");

// The parent holds the other end of stdin and never writes: an end means that the parent is gone, however it ended.
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
// Nothing is kept on disk, so there is nothing to close: Azurite itself would wait for every open connection.
process.on("SIGTERM", () => process.exit(0));

// Eight bytes in this file are the milliseconds since 1970 (double, little-endian) that the parent's clock shows.
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

// Azurite looks a blob up by account, container, name and snapshot, in this order, and its database narrows by the
// first one only, so that each write reads every blob of the account: 20,000 writes take two minutes. With the name
// first they take seconds, and find the same.
const Collection = require(require.resolve("lokijs", { paths: [process.argv[1]] })).Collection;
const findOne = Collection.prototype.findOne;
Collection.prototype.findOne = function (query) {
  return findOne.call(this, query && typeof query.name === "string" ? { name: query.name, ...query } : query);
};
