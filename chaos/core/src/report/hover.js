const tip=document.getElementById("tip");
document.addEventListener("pointermove",event=>{
const text=event.target.dataset&&event.target.dataset.tip;
tip.hidden=!text;
if(!text)return;
tip.textContent=text;
const right=event.clientX+tip.offsetWidth+24>innerWidth;
tip.style.left=(right?event.clientX-tip.offsetWidth-12:event.clientX+12)+"px";
tip.style.top=event.clientY+16+"px";
});
