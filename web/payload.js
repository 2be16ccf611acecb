// A payload's header, and what its checksum is of; see cnn_compression/payload/layout.py, which has
// the layout byte by byte and the same limits.

import { farmhash64 } from "./farmhash.js";

const MAX_SEGMENTS = 1024, MAX_SCANS = 16;
const SCAN = 0xda, END = 0xd9, APP9 = 0xe9;
const MAGIC = "CNNC", MAGIC_START = 4, CHECKSUM_START = 28, SEGMENT_SIZE = 36;

// Why a file stays as it is. `reason` is "foreign", "damaged", "model" or "size".
export class RestoreError extends Error {
  constructor(reason, message) {
    super(message);
    this.name = "RestoreError";
    this.reason = reason;
  }
}

const damaged = (message) => new RestoreError("damaged", `damaged: ${message}`);

const isRestart = (marker) => marker >= 0xd0 && marker <= 0xd7;
const isAlone = (marker) => marker === 0x01 || isRestart(marker);
const isNothing = (marker) => marker === 0x00 || marker === 0xd8 || marker === undefined;
// Application segments and comments tell about a picture, and are no part of it.
const tells = (marker) => (marker >= 0xe0 && marker <= 0xef) || marker === 0xfe;

// What a marker's segment is up to, from the marker on; -1 where it is none.
function endOf(data, at) {
  const marker = data[at + 1];
  if (marker === END || isAlone(marker)) return at + 2;
  const length = 256 * (data[at + 2] ?? 0) + (data[at + 3] ?? 0);
  return length < 2 ? -1 : at + 2 + length;
}

// Where a scan's data end: before a marker that is no restart, and the fill bytes before that.
function endOfScan(data, start) {
  let at = start;
  for (; at < data.length; at++) {
    if (data[at] !== 0xff) continue;
    const next = data[at + 1];
    if (next !== undefined && next !== 0x00 && next !== 0xff && !isRestart(next)) break;
  }
  while (at > start && data[at - 1] === 0xff) at--;
  return Math.max(at, start);
}

// A JPEG's segments in their order, { marker, start, end }, a scan with its data; the last one is
// the end of image where the file is whole and has no more than the limits.
export function* segments(data) {
  if (data[0] !== 0xff || data[1] !== 0xd8) return;
  for (let at = 2, count = 0, scans = 0; count < MAX_SEGMENTS; count++) {
    if (data[at] !== 0xff) return;
    while (data[at + 1] === 0xff) at++; // a fill byte
    const marker = data[at + 1];
    let end = endOf(data, at);
    scans += marker === SCAN;
    if (isNothing(marker) || end < 0 || scans > MAX_SCANS) return;
    if (marker === SCAN) end = endOfScan(data, end);
    yield { marker, start: at, end };
    if (marker === END) return;
    at = end;
  }
}

function isOwn(data, { marker, start }) {
  const letters = data.subarray(start + MAGIC_START, start + MAGIC_START + MAGIC.length);
  return marker === APP9 && String.fromCharCode(...letters) === MAGIC;
}

function joined(parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

// A payload whose checksum fits, or a RestoreError: Uint8Array to { header, jpeg }. The header is
// { fingerprint, height, width, channels, scale, quality }; the JPEG, a Blob, is what the checksum
// covers: without profiles, orientation and whatever else programs may have put beside it.
export function readPayload(data) {
  const all = [...segments(data)];
  const scan = all.findIndex(({ marker }) => marker === SCAN);
  const own = all.slice(0, scan < 0 ? all.length : scan).filter((each) => isOwn(data, each));
  if (own.length === 0)
    throw new RestoreError("foreign", "not a payload: a JPEG with a CNNC segment was expected");
  if (own.length > 1) throw damaged(`it has ${own.length} CNNC segments`);
  const [{ start, end }] = own;
  if (data.length < Math.max(end, start + SEGMENT_SIZE)) throw damaged("it is cut short");
  const view = new DataView(data.buffer, data.byteOffset + start);
  const version = view.getUint8(8);
  if (version !== 1 && version !== 2)
    throw new RestoreError("model", `payload version ${version} is not known here`);
  if (all.at(-1).marker !== END) throw damaged("it is cut short");
  const [before, after] = [start + CHECKSUM_START, start + SEGMENT_SIZE];
  const picture = [data.subarray(0, 2)];
  for (const part of all)
    if (!tells(part.marker)) picture.push(data.subarray(part.start, part.end));
  const covered = version === 1
    ? joined([data.subarray(0, before), data.subarray(after)])
    : joined([data.subarray(start, before), data.subarray(after, end), ...picture]);
  if (farmhash64(covered) !== view.getBigUint64(CHECKSUM_START, true))
    throw damaged("the checksum does not match the picture; another program may have changed it");
  const header = {
    fingerprint: Array.from(data.subarray(start + 9, start + 17),
                            (byte) => byte.toString(16).padStart(2, "0")).join(""),
    height: view.getUint32(17), width: view.getUint32(21),
    channels: view.getUint8(25), scale: view.getUint8(26), quality: view.getUint8(27),
  };
  if (header.quality < 1 || header.quality > 100) throw damaged("its quality is not in 1..100");
  return { header, jpeg: new Blob(picture, { type: "image/jpeg" }) };
}
