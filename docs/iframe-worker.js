// A page that is opened as a file may not start a worker; its search then runs in a hidden frame instead.
// Of a Worker the search uses the constructor, postMessage and onmessage; `importScripts` loads the index's languages.
(() => {
  if (location.protocol !== "file:") return;

  class FrameWorker extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      this.waiting = [];
      document.body ? document.body.append(frame) : addEventListener("DOMContentLoaded", () => document.body.append(frame));
      window.addEventListener("message", (event) => {
        if (event.source !== frame.contentWindow) return;
        const news = new MessageEvent("message", { data: event.data });
        this.dispatchEvent(news);
        if (this.onmessage) this.onmessage(news);
      });
      frame.addEventListener("load", () => {
        this.frame = frame;
        this.waiting.splice(0).forEach((data) => this.postMessage(data));
      });
      frame.srcdoc = `<html><head><base href="${document.baseURI}"></head><body><script>
        var postMessage = (data) => parent.postMessage(data, "*");
        var importScripts = (...files) => files.reduce((before, file) => before.then(() => new Promise((done) => {
          const script = document.createElement("script");
          script.src = file;
          script.onload = done;
          document.body.append(script);
        })), Promise.resolve());
      <\/script><script src="${new URL(url, document.baseURI)}"><\/script></body></html>`;
    }
    postMessage(data) {
      if (this.frame) this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data, source: parent }));
      else this.waiting.push(data);
    }
    terminate() {
      if (this.frame) this.frame.remove();
    }
  }
  window.Worker = FrameWorker;
})();
