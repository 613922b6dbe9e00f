exports.page = (manager, api) => `<!doctype html><title>NQRust</title><p>${manager} ${api}</p>`;
