import { readFileSync } from 'node:fs';
import WebSocket from 'ws';
import { Client } from '@stable-canvas/comfyui-client';

const [url, file] = process.argv.slice(2);
const client = new Client({ api_host: new URL(url).host, WebSocket });
client.connect();
const result = await client.enqueue(JSON.parse(readFileSync(file)));
client.close();
const sizes = [];
for (const image of result.images) {
  const data = image.type === 'buff' ? image.data : await (await fetch(image.data)).arrayBuffer();
  sizes.push(data.byteLength);
}
console.log(JSON.stringify(sizes));
process.exit(0);
