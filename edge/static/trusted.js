/** Addresses of our own scripts, for browsers that demand to know that they are ours (trusted types). */

const OURS = ['/static/alarm-worker.js', '/static/notice-worker.js'];

const policy = globalThis.trustedTypes?.createPolicy('bubble', {
  createScriptURL: (path) => {
    if (!OURS.includes(path)) throw new TypeError(`${path} is no script of ours`);
    return path;
  },
});

export function scriptUrl(path) {
  return policy ? policy.createScriptURL(path) : path;
}
