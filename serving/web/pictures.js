// Files to canvases, JPEGs of a size, and what they differ by.

export const toBlob = (canvas, type, quality) =>
  new Promise((resolve, reject) => canvas.toBlob(
    (blob) => (blob ? resolve(blob) : reject(new Error("The picture is too large for this browser."))),
    type, quality));

// A picture file on white, upright, of a size where one is given.
export async function toCanvas(blob, width, height) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob);
  } catch {
    throw new Error("This file is no picture that the browser can read.");
  }
  const canvas = document.createElement("canvas");
  canvas.width = width ?? bitmap.width;
  canvas.height = height ?? bitmap.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas;
}

// Whether a JPEG carries a payload's segment before its first scan; see payload/layout.py, which
// looks at as many segments.
export async function isPayload(blob) {
  const data = new Uint8Array(await blob.arrayBuffer());
  if (data[0] !== 0xff || data[1] !== 0xd8) return false;
  for (let at = 2, count = 0; count < 1024 && data[at] === 0xff; count++) {
    while (data[at + 1] === 0xff) at++;  // a fill byte
    const marker = data[at + 1], length = 256 * (data[at + 2] ?? 0) + (data[at + 3] ?? 0);
    if (marker === 0x01 || (marker >= 0xd0 && marker <= 0xd7)) at += 2;  // no length follows
    else if (!marker || (marker >= 0xd8 && marker <= 0xda) || length < 2) return false;
    else if (marker === 0xe9 && String.fromCharCode(...data.slice(at + 4, at + 8)) === "CNNC")
      return true;
    else at += 2 + length;
  }
  return false;
}

// The best JPEG of this browser's that takes no more bytes; its smallest where none does.
export async function jpegOfSize(canvas, bytes) {
  let low = 0, high = 100, best = await toBlob(canvas, "image/jpeg", 0);
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    const blob = await toBlob(canvas, "image/jpeg", middle / 100);
    if (blob.size <= bytes) [low, best] = [middle, blob];
    else high = middle - 1;
  }
  return best;
}

// Decibels, over red, green and blue, for canvases of one size.
export function psnr(one, other) {
  const pixels = (canvas) =>
    canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const a = pixels(one), b = pixels(other);
  let sum = 0;
  for (let at = 0; at < a.length; at += 4)
    for (let channel = at; channel < at + 3; channel++) sum += (a[channel] - b[channel]) ** 2;
  return 10 * Math.log10((255 ** 2 * 0.75 * a.length) / sum);
}
