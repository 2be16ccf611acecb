// FarmHash64, as TensorFlow's `tf.fingerprint` computes it: the checksum of a payload.
// All is unsigned 64-bit arithmetic, little-endian, on BigInt.

const K0 = 0xc3a5c85c97cb3127n, K1 = 0xb492b66fbe98f273n, K2 = 0x9ae16a3b2f90404fn;

const u64 = (value) => BigInt.asUintN(64, value);
const rotated = (value, bits) => u64((value << (64n - bits)) | (value >> bits));
const mixed = (value) => value ^ (value >> 47n);

function ofPair(u, v, factor) {
  const a = mixed(u64((u ^ v) * factor));
  return u64(mixed(u64((v ^ a) * factor)) * factor);
}

// Uint8Array to BigInt.
export function farmhash64(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const at = (place) => view.getBigUint64(place, true);
  if (bytes.length > 64) return ofMany(at, bytes.length);
  if (bytes.length > 16) return ofSome(at, bytes.length);
  return ofFew(view, at, bytes.length);
}

function ofFew(view, at, length) {
  const size = BigInt(length), factor = K2 + 2n * size;
  if (length >= 8) {
    const a = u64(at(0) + K2), b = at(length - 8);
    const c = u64(rotated(b, 37n) * factor + a), d = u64((rotated(a, 25n) + b) * factor);
    return ofPair(c, d, factor);
  }
  if (length >= 4) {
    const [a, b] = [0, length - 4].map((place) => BigInt(view.getUint32(place, true)));
    return ofPair(size + (a << 3n), b, u64(factor));
  }
  if (length === 0) return K2;
  const [a, b, c] = [0, length >> 1, length - 1].map((place) => BigInt(view.getUint8(place)));
  return u64(mixed(u64((a + (b << 8n)) * K2) ^ u64((size + (c << 2n)) * K0)) * K2);
}

// 17 to 64 bytes: their ends; of more than 32 then the middle, and what the ends gave.
function ofSome(at, length) {
  const factor = u64(K2 + 2n * BigInt(length)), long = length > 32;
  const a = u64(at(0) * (long ? K2 : K1)), b = at(8);
  const c = u64(at(length - 8) * factor), d = u64(at(length - 16) * K2);
  const y = u64(rotated(u64(a + b), 43n) + rotated(c, 30n) + d);
  const z = ofPair(y, u64(a + rotated(u64(b + K2), 18n) + c), factor);
  if (!long) return z;
  const e = u64(at(16) * factor), f = at(24);
  const g = u64((y + at(length - 32)) * factor), h = u64((z + at(length - 24)) * factor);
  return ofPair(u64(rotated(u64(e + f), 43n) + rotated(g, 30n) + h),
                u64(e + rotated(u64(f + a), 18n) + g), factor);
}

// 32 bytes and two seeds to two words.
function weakly(at, place, a, b) {
  const start = u64(a + at(place)), last = at(place + 24);
  const sum = u64(start + at(place + 8) + at(place + 16));
  return [u64(sum + last), u64(rotated(u64(b + start + last), 21n) + rotated(sum, 44n) + start)];
}

function ofMany(at, length) {
  const rest = (length - 1) & 63, end = length - 1 - rest;
  let y = u64(81n * K1 + 113n), z = u64(mixed(u64(y * K2 + 113n)) * K2);
  let x = u64(81n * K2 + at(0)), v = [0n, 0n], w = [0n, 0n];

  // 64 bytes; `seed` is 9 at the end, else 1.
  const step = (place, factor, weight) => {
    x = u64(rotated(u64(x + y + v[0] + at(place + 8)), 37n) * factor) ^ u64(w[1] * weight);
    y = u64(rotated(u64(y + v[1] + at(place + 48)), 42n) * factor + v[0] * weight + at(place + 40));
    z = u64(rotated(u64(z + w[0]), 33n) * factor);
    v = weakly(at, place, u64(v[1] * factor), u64(x + w[0]));
    w = weakly(at, place + 32, u64(z + w[1]), u64(y + at(place + 16)));
    [x, z] = [z, x];
  };

  for (let place = 0; place < end; place += 64) step(place, K1, 1n);
  const factor = u64(K1 + ((z & 0xffn) << 1n));
  w[0] = u64(w[0] + BigInt(rest));
  v[0] = u64(v[0] + w[0]);
  w[0] = u64(w[0] + v[0]);
  step(length - 64, factor, 9n); // the last 64, some of which may have been there before
  return ofPair(u64(ofPair(v[0], w[0], factor) + mixed(y) * K0 + z),
                u64(ofPair(v[1], w[1], factor) + x), factor);
}
