// Plays the asset named by the last part of the address: /watch/<asset> or /embed/<asset>.
(() => {
  "use strict";

  const POLL_MS = 1000; // while there is no playlist yet
  const PATIENCE_POLLS = 60; // then say that there may never be one, and go on asking
  const FACTS_MS = 1000;
  const WAIT_S = 10; // how long the edge may keep the answer back that nothing has changed
  const AGAIN_MS = 200; // at least, between one answer and the next question
  const LOOK_MS = 5000; // how often to look where no answer is kept back
  const AWAY_MS = 60000; // at most, between questions while the server is away
  const REFUSALS = {
    401: "This video is private: open it by the link that you were given.",
    403: "This video cannot be watched from here, or not by this link.",
    410: "This video was taken down.",
  };

  // Every error of the player, whether it recovered or not. Tests read it.
  window.reelmillErrors = [];

  const asset = location.pathname.split("/").pop();
  // Relative, so that a token in the path is kept.
  const playlist = new URL(`../assets/${asset}/index.m3u8`, location.href).pathname;
  const video = document.getElementById("video");
  const stage = document.querySelector(".stage");
  const state = document.getElementById("state");
  const facts = document.getElementById("facts"); // not on the embedded page
  let hls = null;

  function show(name, sentence) {
    stage.dataset.state = name;
    if (state.textContent !== sentence) state.textContent = sentence;
  }

  function record(kind, detail, fatal) {
    window.reelmillErrors.push({ kind, detail, fatal, atSeconds: video.currentTime });
  }

  function fail(kind, detail, sentence) {
    record(kind, detail, true);
    show("failed", sentence);
  }

  const pause = (ms) => new Promise((done) => setTimeout(done, ms));

  // Resolves to the answer with the playlist once there is one, or shows why there never will be and resolves to null.
  async function prepared() {
    for (let polls = 0; ; polls += 1) {
      let status = 0;
      try {
        const answer = await fetch(playlist, { cache: "no-store" });
        if (answer.status === 200) return { text: await answer.text(), tag: answer.headers.get("etag") };
        status = answer.status;
      } catch (error) {
        // No answer at all, or half of one: status stays 0.
      }
      if (status === 404) {
        const waiting = polls < PATIENCE_POLLS;
        show("preparing", waiting ? "Preparing…" : "Still preparing, or there is no such video.");
      } else if (status === 0 || status >= 500) {
        show("preparing", "The server does not answer, trying again…");
      } else {
        fail("playlist", `HTTP ${status}`, REFUSALS[status] || "This video is not available.");
        return null;
      }
      await pause(POLL_MS);
    }
  }

  // Shown until play begins. A video plays as well without one.
  async function showPoster() {
    try {
      const described = await fetch(new URL(`../assets/${asset}/presentation.json`, location.href));
      const { poster } = await described.json();
      if (poster) video.poster = new URL(`../blobs/${poster.hash.slice(0, 2)}/${poster.hash}.jpg`, location.href).href;
    } catch (error) {
      record("poster", String(error), false);
    }
  }

  function playWithHls() {
    // startPosition 0: a growing playlist is a video that is still being made, not a live event.
    // CMCD in header fields: it tells the edge how the viewer fares, and leaves addresses as they are.
    hls = new Hls({
      startPosition: 0,
      liveDurationInfinity: false,
      backBufferLength: 30,
      cmcd: { useHeaders: true },
      // Captions are ours: see below.
      subtitleTrackController: undefined,
      subtitleStreamController: undefined,
      timelineController: undefined,
    });
    let recoveries = 0;
    hls.on(Hls.Events.ERROR, (_, error) => {
      const detail = error.reason || (error.error && error.error.message) || "";
      if (!error.fatal) {
        record(error.type, `${error.details} ${detail}`.trim(), false);
        return;
      }
      if (error.type === Hls.ErrorTypes.MEDIA_ERROR && recoveries === 0) {
        recoveries += 1;
        record(error.type, `${error.details} ${detail}`.trim(), false);
        hls.recoverMediaError();
        return;
      }
      hls.destroy();
      fail(error.type, `${error.details} ${detail}`.trim(), "This video cannot be played right now.");
    });
    hls.loadSource(playlist);
    hls.attachMedia(video);
    window.reelmillHls = hls;
  }

  // Captions come, change and go while a video is watched, and hls.js reads the multivariant playlist only once. So they are
  // tracks of the page, which reads it again whenever it changes.
  const tracks = new Map(); // by the address of their playlist, which is another one when their text is

  // What EXT-X-MEDIA says of captions, by the address of their playlist.
  function captionsIn(text) {
    const lines = text.split("\n").filter((line) => line.startsWith("#EXT-X-MEDIA:TYPE=SUBTITLES,"));
    const all = lines.map((line) =>
      Object.fromEntries(Array.from(line.matchAll(/([A-Z-]+)=(?:"([^"]*)"|([^,]*))/g), ([, name, quoted, bare]) => [name, quoted ?? bare])),
    );
    return new Map(all.map((captions) => [new URL(captions.URI, new URL(playlist, location.href)).href, captions]));
  }

  // They are one segment of WebVTT, whose cues count from the beginning: what browsers show by themselves.
  async function trackOf(address, { LANGUAGE, NAME, CHARACTERISTICS }) {
    const lines = (await (await fetch(address)).text()).split("\n");
    const track = document.createElement("track");
    track.kind = CHARACTERISTICS ? "captions" : "subtitles";
    track.srclang = LANGUAGE;
    track.label = NAME;
    track.src = new URL(lines.find((line) => line && !line.startsWith("#")), address).href;
    return track;
  }

  async function showCaptions(text) {
    const named = captionsIn(text);
    for (const [address, captions] of named) {
      if (tracks.has(address)) continue;
      const track = video.appendChild(await trackOf(address, captions));
      const before = [...tracks.values()].find(({ srclang }) => srclang === track.srclang);
      const unasked = captions.DEFAULT === "YES" && ![...video.textTracks].some(({ mode }) => mode === "showing");
      // A browser that shows captions shows any new ones too, unless their mode has been set.
      track.track.mode = "hidden";
      track.track.mode = before ? before.track.mode : unasked ? "showing" : "disabled";
      tracks.set(address, track);
    }
    for (const [address, track] of tracks) {
      if (named.has(address)) continue;
      tracks.delete(address);
      track.remove();
    }
  }

  // Resolves as soon as somebody sees the page.
  async function seen() {
    if (document.hidden) await new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
  }

  // The playlist as it is now; where it is the one of this tag, after a wait for another (RFC 7240, section 4.3). The query
  // means nothing to the edge. By it, caches on the way keep those who wait apart from those who do not.
  async function newer({ text, tag }) {
    const headers = tag ? { "If-None-Match": tag, Prefer: `wait=${WAIT_S}` } : {};
    const answer = await fetch(`${playlist}?changes`, { cache: "no-store", headers });
    if (answer.status === 304) return { text, tag };
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    return { text: await answer.text(), tag: answer.headers.get("etag") };
  }

  async function followCaptions(known) {
    for (let rest = AGAIN_MS, failures = 0; ; ) {
      await showCaptions(known.text).catch((error) => record("captions", String(error), false));
      await pause(rest);
      await seen();
      const asked = performance.now();
      try {
        const now = await newer(known);
        const keptBack = performance.now() - asked > (WAIT_S * 1000) / 2;
        rest = keptBack || now.text !== known.text ? AGAIN_MS : LOOK_MS;
        known = now;
        failures = 0;
      } catch (error) {
        // The server is away, or refuses: that the player itself says.
        rest = Math.min(LOOK_MS * 2 ** failures, AWAY_MS) * (0.5 + Math.random() / 2);
        failures += 1;
      }
    }
  }

  function playNatively() {
    video.src = playlist;
    video.addEventListener("error", () => {
      const error = video.error;
      fail("native", error ? `${error.code} ${error.message}` : "", "This video cannot be played right now.");
    });
  }

  // Facts: what is seen, at what rate, by which protocol.
  const PROTOCOLS = { h3: "HTTP/3", h2: "HTTP/2", "http/1.1": "HTTP/1.1" };

  function lastProtocol() {
    const blobs = performance.getEntriesByType("resource").filter((entry) => entry.name.includes("/blobs/"));
    const last = blobs[blobs.length - 1];
    return last && (PROTOCOLS[last.nextHopProtocol] || last.nextHopProtocol);
  }

  function bitrate() {
    const level = hls && hls.levels && hls.levels[hls.currentLevel];
    const bits = level && (level.realBitrate || level.bitrate);
    if (!bits) return null;
    return bits < 1e6 ? `${Math.round(bits / 1e3)} kb/s` : `${(bits / 1e6).toFixed(1)} Mb/s`;
  }

  function tell() {
    const size = video.videoWidth ? `${video.videoWidth}×${video.videoHeight}` : null;
    const growing = video.duration === Infinity || (hls && hls.latestLevelDetails && hls.latestLevelDetails.live);
    const parts = [size, bitrate(), lastProtocol(), growing ? "still growing" : null].filter(Boolean);
    if (parts.length > 0) facts.textContent = parts.join(" · ");
  }

  async function main() {
    performance.setResourceTimingBufferSize(10000);
    if (facts) setInterval(tell, FACTS_MS);
    video.addEventListener("loadedmetadata", () => show("playing", ""));
    const known = await prepared();
    if (known === null) return;
    showPoster();
    // Our own path first: native HLS of some browsers is young. Without MediaSource (iPhones) native is mature.
    if (window.Hls && Hls.isSupported()) {
      playWithHls();
      followCaptions(known);
    } else if (video.canPlayType("application/vnd.apple.mpegurl")) {
      playNatively();
    } else {
      fail("unsupported", navigator.userAgent, "This browser cannot play this video.");
    }
  }

  main();
})();
