// Plays the asset named by the last part of the address: /watch/<asset> or /embed/<asset>.
(() => {
  "use strict";

  const POLL_MS = 1000; // while there is no playlist yet
  const PATIENCE_POLLS = 60; // then say that there may never be one, and go on asking
  const FACTS_MS = 1000;

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

  // Resolves once there is a playlist, or shows why there never will be and resolves to false.
  async function prepared() {
    for (let polls = 0; ; polls += 1) {
      let status = 0;
      try {
        status = (await fetch(playlist, { cache: "no-store" })).status;
      } catch (error) {
        // No answer at all: status stays 0.
      }
      if (status === 200) return true;
      if (status === 404) {
        const waiting = polls < PATIENCE_POLLS;
        show("preparing", waiting ? "Preparing…" : "Still preparing, or there is no such video.");
      } else if (status === 0 || status >= 500) {
        show("preparing", "The server does not answer, trying again…");
      } else {
        fail("playlist", `HTTP ${status}`, "This video is not available.");
        return false;
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
    hls = new Hls({ startPosition: 0, liveDurationInfinity: false, backBufferLength: 30, cmcd: { useHeaders: true } });
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
    if (!(await prepared())) return;
    showPoster();
    // Our own path first: native HLS of some browsers is young. Without MediaSource (iPhones) native is mature.
    if (window.Hls && Hls.isSupported()) {
      playWithHls();
    } else if (video.canPlayType("application/vnd.apple.mpegurl")) {
      playNatively();
    } else {
      fail("unsupported", navigator.userAgent, "This browser cannot play this video.");
    }
  }

  main();
})();
