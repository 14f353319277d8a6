/** Files that the page saves: PNG in the data's own depth and channels, NumPy arrays, safetensors, zip. */

const text = new TextEncoder();
const CRC = Uint32Array.from({length: 256}, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function crc32(bytes) {
  let crc = ~0;
  for (const byte of bytes) crc = CRC[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

function bytes(...parts) {
  const all = new Uint8Array(parts.reduce((sum, p) => sum + p.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Whole numbers as bytes, each [value, size]. */
function packed(littleEndian, ...numbers) {
  return Uint8Array.from(numbers.flatMap(([value, size]) => {
    const found = Array.from({length: size}, (_, i) => Math.floor(value / 256 ** i) % 256);
    return littleEndian ? found : found.reverse();
  }));
}

async function deflated(content) {
  return new Uint8Array(await new Response(new Blob([content]).stream().pipeThrough(new CompressionStream("deflate"))).arrayBuffer());
}

/** Types of numbers: as NumPy names them, as a typed array holds them; others are written as float64. */
const NUMBERS = {
  uint8: ["|u1", Uint8Array], uint16: ["<u2", Uint16Array], uint32: ["<u4", Uint32Array],
  int8: ["|i1", Int8Array], int16: ["<i2", Int16Array], int32: ["<i4", Int32Array],
  float32: ["<f4", Float32Array], float64: ["<f8", Float64Array],
};
const TOPS = {uint8: 255, uint16: 65535};

/** Whether a PNG holds the data's own numbers in all channels. */
export const fitsPng = ({dtype, alpha}, channels) => dtype in TOPS && (alpha ? channels === 2 || channels === 4 : channels === 1 || channels === 3);

/** Floats [-1, 1] → numbers of the data: lo + s · (hi − lo), s their share of the range; crisp opacity is 0 or full. */
function stored(values, {dtype, ranges, alpha, crisp}, channels) {
  const top = TOPS[dtype] ?? 1, pairs = ranges ?? [[0, top]], whole = dtype.includes("int");
  return (NUMBERS[dtype] ?? NUMBERS.float64)[1].from(values, (v, i) => {
    const c = i % channels, share = Math.min(Math.max((v + 1) / 2, 0), 1);
    if (alpha && c === channels - 1) return Math.round((crisp ? Math.round(share) : share) * top);
    const [lo, hi] = pairs[pairs.length > 1 ? c : 0], value = lo + share * (hi - lo);
    return whole ? Math.round(value) : value;
  });
}

const EIGHT_BITS = {dtype: "uint8", ranges: null, alpha: false, crisp: false};

/** A float image {data [h, w, channels] in [-1, 1], …} → PNG of grey, grey and alpha, RGB or RGBA; other numbers than uint8 and uint16 are
 *  scaled to 16 bits, and of other channels the first or the first three are shown. */
export async function png(image, {pixels = null, about = {}} = {}) {
  const {h, w, channels} = image, data = pixels ?? {...EIGHT_BITS, alpha: channels === 2 || channels === 4};
  const format = data.dtype in TOPS ? data : {...EIGHT_BITS, dtype: "uint16"}, depth = format.dtype === "uint8" ? 8 : 16, size = depth / 8;
  const shown = channels <= 4 && (data.alpha || channels % 2) ? channels : channels > 2 ? 3 : 1;
  const values = stored(image.data, format, channels);
  const rows = new DataView(new ArrayBuffer(h * (1 + w * shown * size)));
  for (let y = 0, at = 0; y < h; y++) {
    at++; // filter 0
    for (let x = 0; x < w; x++) {
      for (let c = 0; c < shown; c++, at += size) {
        const value = values[(y * w + x) * image.channels + c];
        size === 2 ? rows.setUint16(at, value) : rows.setUint8(at, value);
      }
    }
  }
  const chunk = (kind, content) => {
    const named = bytes(text.encode(kind), content);
    return bytes(packed(false, [content.length, 4]), named, packed(false, [crc32(named), 4]));
  };
  const header = packed(false, [w, 4], [h, 4], [depth, 1], [[0, 4, 2, 6][shown - 1], 1], [0, 3]);
  const notes = Object.entries(about).map(([key, value]) => chunk("iTXt", bytes(text.encode(`${key}\0\0\0\0\0`), text.encode(value))));
  return bytes(
    Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10), chunk("IHDR", header), ...notes,
    chunk("IDAT", await deflated(new Uint8Array(rows.buffer))), chunk("IEND", new Uint8Array()),
  );
}

/** A float image → .npy of all its channels, [h, w, channels] in the numbers of the data. */
export function npy(image, {pixels}) {
  const values = stored(image.data, pixels, image.channels), [kind] = NUMBERS[pixels.dtype] ?? NUMBERS.float64;
  const head = `{'descr': '${kind}', 'fortran_order': False, 'shape': (${image.h}, ${image.w}, ${image.channels}), }`;
  const padded = head.padEnd(Math.ceil((head.length + 11) / 64) * 64 - 11, " ") + "\n";
  const start = bytes(Uint8Array.of(0x93), text.encode("NUMPY"), Uint8Array.of(1, 0), packed(true, [padded.length, 2]));
  return bytes(start, text.encode(padded), new Uint8Array(values.buffer));
}

/** {name: {shape, values: Float32Array}} → the safetensors format. */
export function safetensors(tensors, about = {}) {
  const header = {__metadata__: about};
  let at = 0;
  for (const [name, {shape, values}] of Object.entries(tensors)) {
    header[name] = {dtype: "F32", shape, data_offsets: [at, at += 4 * values.length]};
  }
  const head = text.encode(JSON.stringify(header));
  const data = Object.values(tensors).map(({values}) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  const padded = bytes(head, new Uint8Array(-head.length & 7).fill(32));
  return bytes(packed(true, [padded.length, 8]), padded, ...data);
}

/** The float32 tensors of a safetensors file, by name, and its own words on them. Throws where it is none. */
export function readSafetensors(buffer) {
  const size = buffer.byteLength < 8 ? Infinity : Number(new DataView(buffer).getBigUint64(0, true));
  if (size > buffer.byteLength - 8 || size < 2) throw new Error("no safetensors file");
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, size))), found = {};
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__" || entry.dtype !== "F32") continue;
    const [from, to] = entry.data_offsets;
    found[name] = {shape: entry.shape, values: new Float32Array(buffer.slice(8 + size + from, 8 + size + to))};
  }
  return {tensors: found, about: header.__metadata__ ?? {}};
}

/** {path: bytes} → an uncompressed zip. */
export function zip(files) {
  const entries = [], central = [];
  let at = 0;
  for (const [path, content] of Object.entries(files)) {
    const name = text.encode(path);
    const facts = packed(true, [20, 2], [0x800, 2], [0, 2], [0, 2], [33, 2], [crc32(content), 4], [content.length, 4], [content.length, 4], [name.length, 2], [0, 2]);
    const entry = bytes(packed(true, [0x04034b50, 4]), facts, name, content);
    central.push(bytes(packed(true, [0x02014b50, 4], [20, 2]), facts, packed(true, [0, 2], [0, 2], [0, 2], [0, 4], [at, 4]), name));
    entries.push(entry);
    at += entry.length;
  }
  const list = bytes(...central);
  const end = packed(true, [0x06054b50, 4], [0, 2], [0, 2], [central.length, 2], [central.length, 2], [list.length, 4], [at, 4], [0, 2]);
  return bytes(...entries, list, end);
}

/** Offers bytes as a download. */
export function download(content, name, type = "application/octet-stream") {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], {type}));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
