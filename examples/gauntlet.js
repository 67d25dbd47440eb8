// A decoder of spikes in JavaScript, without any package:
//
//     node examples/gauntlet.js SESSION [PORT] [PACKETS]
//
// docs/wire.md says what the messages are. The model is a stand-in for yours: a leaky sum of the
// counts, pulled one way by even units and the other way by odd ones.
'use strict';
const net = require('net');

// -- MessagePack, as much of it as the port speaks -----------------------------------------------

class NotAllThere extends Error {}

class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }

  take(n) {
    if (this.at + n > this.bytes.length) throw new NotAllThere();
    this.at += n;
    return this.at - n;
  }

  text(n) {
    const from = this.take(n);
    return this.bytes.toString('utf8', from, from + n);
  }

  list(n) {
    const items = [];
    for (let i = 0; i < n; i++) items.push(this.value());
    return items;
  }

  map(n) {
    const made = {};
    for (let i = 0; i < n; i++) {
      const key = this.value();
      made[key] = this.value();
    }
    return made;
  }

  value() {
    const b = this.bytes;
    const tag = b[this.take(1)];
    if (tag < 0x80) return tag;
    if (tag < 0x90) return this.map(tag & 15);
    if (tag < 0xa0) return this.list(tag & 15);
    if (tag < 0xc0) return this.text(tag & 31);
    if (tag >= 0xe0) return tag - 256;
    switch (tag) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xca: return b.readFloatBE(this.take(4));
      case 0xcb: return b.readDoubleBE(this.take(8));
      case 0xcc: return b.readUInt8(this.take(1));
      case 0xcd: return b.readUInt16BE(this.take(2));
      case 0xce: return b.readUInt32BE(this.take(4));
      case 0xcf: return Number(b.readBigUInt64BE(this.take(8)));
      case 0xd0: return b.readInt8(this.take(1));
      case 0xd1: return b.readInt16BE(this.take(2));
      case 0xd2: return b.readInt32BE(this.take(4));
      case 0xd3: return Number(b.readBigInt64BE(this.take(8)));
      case 0xd9: return this.text(b.readUInt8(this.take(1)));
      case 0xda: return this.text(b.readUInt16BE(this.take(2)));
      case 0xdb: return this.text(b.readUInt32BE(this.take(4)));
      case 0xdc: return this.list(b.readUInt16BE(this.take(2)));
      case 0xdd: return this.list(b.readUInt32BE(this.take(4)));
      case 0xde: return this.map(b.readUInt16BE(this.take(2)));
      case 0xdf: return this.map(b.readUInt32BE(this.take(4)));
      default: throw new Error(`no message of this stream has the byte ${tag}`);
    }
  }
}

// A map of strings and numbers; all numbers but whole ones below 2^32 go as doubles.
function encode(map) {
  const keys = Object.keys(map);
  const parts = [Buffer.from([0x80 | keys.length])];
  const text = (s) => {
    const bytes = Buffer.from(s, 'utf8');
    parts.push(Buffer.from(bytes.length < 32 ? [0xa0 | bytes.length] : [0xd9, bytes.length]), bytes);
  };
  for (const key of keys) {
    text(key);
    const value = map[key];
    if (typeof value === 'string') {
      text(value);
    } else if (Number.isInteger(value) && value >= 0 && value < 2 ** 32) {
      const bytes = Buffer.alloc(5, 0xce);
      bytes.writeUInt32BE(value, 1);
      parts.push(bytes);
    } else {
      const bytes = Buffer.alloc(9, 0xcb);
      bytes.writeDoubleBE(value, 1);
      parts.push(bytes);
    }
  }
  return Buffer.concat(parts);
}

// -- the decoder -----------------------------------------------------------------------------------

const [session, port = '7072', packets = '0'] = process.argv.slice(2);
const socket = net.connect(Number(port), '127.0.0.1');
socket.setNoDelay(true); // else an answer waits until the one before it is confirmed
socket.on('connect', () => socket.write(encode({ attach: session })));

let ours = false;
let answered = 0;
let vx = 0;
let vy = 0;

function take(message) {
  if (message.type === 'metadata') {
    ours = message.data.session === session;
  } else if (message.type === 'error') {
    console.error(`${message.message} (${message.hint})`);
    process.exit(1);
  } else if (message.type === 'data' && ours) {
    vx *= 0.9;
    vy *= 0.9;
    const counts = message.data.spikes.spike_counts;
    counts.forEach((count, unit) => {
      vx += unit % 2 ? -count : count;
      vy += unit < counts.length / 2 ? count : -count;
    });
    socket.write(encode({ vx, vy, seq: message.seq }));
    answered += 1;
    if (answered === Number(packets)) {
      ours = false;
      socket.destroySoon(); // a client that only stops speaking goes on being told
    }
  }
}

let rest = Buffer.alloc(0);
socket.on('data', (data) => {
  const reader = new Reader(Buffer.concat([rest, data]));
  for (;;) {
    const from = reader.at;
    try {
      take(reader.value());
    } catch (error) {
      if (!(error instanceof NotAllThere)) throw error;
      rest = reader.bytes.subarray(from);
      return;
    }
  }
});
socket.on('error', (error) => {
  console.error(`${error.message}: start phantomd`);
  process.exit(3);
});
socket.on('close', () => console.log(answered, 'packets answered'));
