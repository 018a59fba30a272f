// upload.mjs ENDPOINT KEY FILE PARALLEL: uploads a file by tus-js-client, and says which asset it becomes.
import { createReadStream } from 'node:fs';
import * as tus from 'tus-js-client';

const [endpoint, key, file, parallel] = process.argv.slice(2);
let asset = null;
let requests = 0;
const upload = new tus.Upload(createReadStream(file), {
  endpoint,
  parallelUploads: Number(parallel),
  headers: { Authorization: `Bearer ${key}` },
  metadata: { filename: 'clip.mp4' },
  // It starts from the front again whenever a byte got through.
  retryDelays: Array(20).fill(50),
  onBeforeRequest: () => { requests += 1; },
  onAfterResponse: (_, response) => { asset = response.getHeader('Reelmill-Asset') ?? asset; },
  onError: (error) => { console.error(String(error)); process.exit(1); },
  onSuccess: () => { console.log(JSON.stringify({ asset, requests })); },
});
upload.start();
