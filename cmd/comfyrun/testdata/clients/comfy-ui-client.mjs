import { readFileSync } from 'node:fs';
import { ComfyUIClient } from 'comfy-ui-client';

const [url, file] = process.argv.slice(2);
const client = new ComfyUIClient(new URL(url).host, crypto.randomUUID());
await client.connect();
const images = await client.getImages(JSON.parse(readFileSync(file)));
await client.disconnect();
const sizes = [];
for (const list of Object.values(images)) for (const image of list) sizes.push(image.blob.size);
console.log(JSON.stringify(sizes));
