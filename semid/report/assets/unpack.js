// What the page holds packed (semid/report/packing.py), as typed arrays and lists of text.

class Packed {
  constructor(buffer) {
    const headBytes = new DataView(buffer).getUint32(0, true);
    this.buffer = buffer;
    this.base = 4 + headBytes;
    this.header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, headBytes)));
    this.facts = this.header.facts;
  }

  array(name) {
    const kinds = {
      u1: Uint8Array,
      u2: Uint16Array,
      u4: Uint32Array,
      i4: Int32Array,
      f4: Float32Array,
    };
    const found = this.header.arrays[name];
    return found ? new kinds[found[0]](this.buffer, this.base + found[1], found[2]) : null;
  }

  lines(name) {
    const found = this.header.texts[name];
    if (!found) return null;
    if (found[2] === 0) return [];
    return new TextDecoder()
      .decode(new Uint8Array(this.buffer, this.base + found[0], found[1]))
      .split("\n");
  }

  static async from(base64) {
    const binary = atob(base64.trim());
    const bytes = new Uint8Array(binary.length);
    for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Packed(await new Response(stream).arrayBuffer());
  }
}
