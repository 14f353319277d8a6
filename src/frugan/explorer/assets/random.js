/** NumPy's RandomState: MT19937 (Matsumoto and Nishimura, 1998) and the polar method, so that seed n is the same latent as in Python. */
export class RandomState {
  #key = new Uint32Array(624);
  #at = 624;
  #kept = null;

  /** @param {number} seed a whole number from 0 to 2³² − 1 */
  constructor(seed) {
    const key = this.#key;
    key[0] = seed;
    for (let i = 1; i < 624; i++) key[i] = Math.imul(1812433253, key[i - 1] ^ (key[i - 1] >>> 30)) + i;
  }

  #next() {
    const key = this.#key;
    if (this.#at === 624) {
      for (let i = 0; i < 624; i++) {
        const y = (key[i] & 0x80000000) | (key[(i + 1) % 624] & 0x7fffffff);
        key[i] = key[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      this.#at = 0;
    }
    let y = key[this.#at++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  #double() {
    return ((this.#next() >>> 5) * 67108864 + (this.#next() >>> 6)) / 9007199254740992;
  }

  #gauss() {
    if (this.#kept !== null) {
      const kept = this.#kept;
      this.#kept = null;
      return kept;
    }
    let x, y, r;
    do {
      x = 2 * this.#double() - 1;
      y = 2 * this.#double() - 1;
      r = x * x + y * y;
    } while (r >= 1 || r === 0);
    const f = Math.sqrt((-2 * Math.log(r)) / r);
    this.#kept = f * x;
    return f * y;
  }

  /** @returns {Float32Array} standard normal numbers */
  normal(count) {
    return Float32Array.from({length: count}, () => this.#gauss());
  }
}

/** A new seed, from 0 to 2³² − 1. */
export const newSeed = () => crypto.getRandomValues(new Uint32Array(1))[0];
