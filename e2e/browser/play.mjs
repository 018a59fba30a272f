// Plays a page's video in a real browser and prints what the viewer saw as one JSON object.
// It only reports: whether that is right is for the test that asked to say.

import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';

const USAGE = `node play.mjs URL [--spki BASE64] [--host NAME] [--port N] [--no-force] [--seconds 4 | --until-end | --until-shown CAPTION | --until-said SENTENCE]
  [--begun FILE] [--captions LANGUAGE] [--screenshot FILE] [--timeout SECONDS]`;

const POLL_MS = 100;
// Longer than any wait that a player makes good by itself.
const STALLED_MS = 20_000;

const parsed = parse();
try {
  console.log(JSON.stringify(await play(parsed)));
} catch (error) {
  fail(error.message);
}

function fail(message) {
  console.error(`play: ${message.split('\n')[0]}`);
  process.exit(1);
}

function parse() {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        spki: { type: 'string' },
        host: { type: 'string' },
        port: { type: 'string' },
        seconds: { type: 'string', default: '4' },
        timeout: { type: 'string', default: '120' },
        screenshot: { type: 'string' },
        captions: { type: 'string' },
        'no-force': { type: 'boolean', default: false },
        'until-end': { type: 'boolean', default: false },
        'until-shown': { type: 'string' },
        'until-said': { type: 'string' },
        begun: { type: 'string' }, // made when it plays
      },
    });
    const url = new URL(positionals[0]);
    const numbers = { seconds: Number(values.seconds), timeout: Number(values.timeout) };
    if (positionals.length !== 1 || !(numbers.seconds > 0) || !(numbers.timeout > 0)) throw new Error();
    return { host: url.hostname, port: url.port || '443', ...values, ...numbers, url };
  } catch {
    return fail(`usage: ${USAGE.replace(/\n\s*/g, ' ')}`);
  }
}

function browserArguments({ url, host, port, spki, ...options }) {
  const list = [
    '--disable-gpu',
    '--autoplay-policy=no-user-gesture-required',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--no-first-run',
    '--enable-quic',
    `--host-resolver-rules=MAP ${host} 127.0.0.1`,
  ];
  if (spki) list.push(`--ignore-certificate-errors-spki-list=${spki}`);
  // Forced means without fallback: a page that loads was loaded over HTTP/3.
  if (url.protocol === 'https:' && !options['no-force']) list.push(`--origin-to-force-quic-on=${host}:${port}`);
  return list;
}

async function play(options) {
  // Each launch gets a user data folder of its own, so that nothing is cached from the run before.
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM_BIN || '/usr/bin/chromium',
    chromiumSandbox: false,
    args: browserArguments(options),
  });
  try {
    const page = await browser.newPage();
    const errors = [];
    page.on('pageerror', (error) => errors.push(`page: ${error.message}`));
    page.on('console', (message) => {
      const { url } = message.location();
      // Browsers ask for an icon on their own.
      if (message.type() !== 'error' || url.endsWith('/favicon.ico')) return;
      errors.push(`console: ${message.text()}${url ? ` (${url})` : ''}`);
    });
    await page.addInitScript(watchFirstFrame);
    await page.goto(options.url.href, { waitUntil: 'domcontentloaded', timeout: options.timeout * 1000 });
    await page.waitForSelector('video', { state: 'attached', timeout: STALLED_MS }).catch(() => {
      throw new Error('the page has no <video> element');
    });
    const stalled = !(await follow(page, options));
    const seen = await page.evaluate(report);
    seen.errors.unshift(...errors);
    if (options.screenshot) await page.screenshot({ path: options.screenshot });
    return { ...seen, stalled };
  } finally {
    await browser.close();
  }
}

/** Lets the video play as far as was asked; false when it stopped on the way. */
async function follow(page, options) {
  const deadline = Date.now() + options.timeout * 1000;
  let start;
  let last = { time: -1, at: Date.now() };
  while (Date.now() < deadline && Date.now() - last.at < STALLED_MS) {
    const { ended, time, playing } = await page.evaluate(keepPlaying, options['until-end'] ? 2 : 1);
    if (options.captions) await page.evaluate(choose, options.captions);
    if (playing && options.begun) writeFileSync(options.begun, '');
    if (playing) start ??= time;
    if (options['until-said']) {
      if ((await page.textContent('#state')) === options['until-said']) return true;
    } else if (options['until-shown']) {
      if (await page.evaluate(shows, options['until-shown'])) return true;
    } else if (ended || (!options['until-end'] && time - start >= options.seconds)) return true;
    if (time !== last.time) last = { time, at: Date.now() };
    await page.waitForTimeout(POLL_MS);
  }
  return false;
}

// What follows runs inside the page.

function watchFirstFrame() {
  performance.setResourceTimingBufferSize(100_000);
  document.addEventListener(
    'loadedmetadata',
    ({ target }) => target.requestVideoFrameCallback?.((now) => (window.playFirstFrameMs ??= now)),
    { capture: true, once: true },
  );
}

function keepPlaying(rate) {
  const video = document.querySelector('video');
  const { ended, currentTime: time } = video;
  // Asked again after its end, a video would start over.
  if (!ended) {
    video.playbackRate = rate;
    if (video.paused) {
      video.muted = true;
      video.play().catch(() => {}); // too early, or it shows in video.error
    }
  }
  return { ended, time, playing: time > 0 && video.readyState > 1 };
}

/** As a viewer does in the menu of the controls. */
function choose(language) {
  for (const track of document.querySelector('video').textTracks) {
    const mode = track.language === language ? 'showing' : 'disabled';
    if (track.mode !== mode) track.mode = mode;
  }
}

/** Whether a caption lies over the picture now. */
function shows(caption) {
  const showing = Array.from(document.querySelector('video').textTracks).filter(({ mode }) => mode === 'showing');
  return showing.some(({ activeCues }) => Array.from(activeCues ?? []).some(({ text }) => text === caption));
}

function report() {
  const video = document.querySelector('video');
  const entries = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')];
  const own = (window.reelmillErrors ?? []).map((error) => (typeof error === 'string' ? error : JSON.stringify(error)));
  return {
    ended: video.ended,
    currentTime: video.currentTime,
    duration: Number.isFinite(video.duration) ? video.duration : null,
    videoWidth: video.videoWidth,
    videoHeight: video.videoHeight,
    totalVideoFrames: video.getVideoPlaybackQuality().totalVideoFrames,
    bufferedRanges: Array.from(video.buffered, (_, at) => [video.buffered.start(at), video.buffered.end(at)]),
    errors: [...own, ...(video.error ? [`video: ${video.error.code} ${video.error.message}`] : [])],
    protocols: Object.fromEntries(
      entries.map(({ name, nextHopProtocol }) => [new URL(name).pathname, nextHopProtocol]),
    ),
    captions: Array.from(video.textTracks, ({ language, label, kind, mode, cues, activeCues }) => ({
      language,
      label,
      kind,
      showing: mode === 'showing',
      cues: Array.from(cues ?? [], ({ startTime, endTime, text }) => [startTime, endTime, text]),
      active: Array.from(activeCues ?? [], ({ text }) => text),
    })),
    firstFrameMs: window.playFirstFrameMs ?? null,
  };
}
