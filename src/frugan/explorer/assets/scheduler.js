/** One job at a time, the newest of each lane; lanes that come first go first. */
export class Scheduler {
  #waiting = new Map();
  #busy = false;

  /** @param lanes names, the most urgent first
   *  @param failed hears of errors
   *  @param idle hears true when there is nothing left to do, false when there is */
  constructor(lanes, {failed, idle}) {
    Object.assign(this, {lanes, failed, idle});
  }

  /** Runs an asynchronous function in its turn; one that still waits in the lane is dropped. */
  request(lane, job) {
    this.#waiting.set(lane, job);
    if (!this.#busy) this.#run();
  }

  /** As `request`, but gives the function's result; a dropped one never settles. */
  result(lane, job) {
    return new Promise((resolve, reject) => this.request(lane, () => job().then(resolve, reject)));
  }

  async #run() {
    this.#busy = true;
    this.idle(false);
    while (this.#waiting.size) {
      const lane = this.lanes.find((name) => this.#waiting.has(name));
      const job = this.#waiting.get(lane);
      this.#waiting.delete(lane);
      try {
        await job();
      } catch (error) {
        this.failed(error);
      }
    }
    this.#busy = false;
    this.idle(true);
  }
}
